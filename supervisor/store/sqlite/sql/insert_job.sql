INSERT INTO job (id, lane, band, pos, priority, enqueued_at, due_at, options, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
