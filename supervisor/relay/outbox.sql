-- The outbox of jobsup: rows that the application inserts in its own transactions become jobs.
-- For SQLite 3.9 and newer. It changes nothing that is there already.
CREATE TABLE IF NOT EXISTS jobsup_outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  queue TEXT NOT NULL,
  payload TEXT NOT NULL DEFAULT 'null',
  options TEXT,
  created_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
  error TEXT
);
CREATE INDEX IF NOT EXISTS jobsup_outbox_waiting ON jobsup_outbox (id) WHERE error IS NULL;
CREATE INDEX IF NOT EXISTS jobsup_outbox_refused ON jobsup_outbox (id) WHERE error IS NOT NULL;

-- Which outbox this is, and the number of the jobsup that takes its rows.
CREATE TABLE IF NOT EXISTS jobsup_outbox_instance (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  instance TEXT NOT NULL,
  owner INTEGER
);
INSERT OR IGNORE INTO jobsup_outbox_instance (only, instance) VALUES (1, lower(hex(randomblob(16))));
