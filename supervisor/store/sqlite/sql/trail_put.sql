INSERT INTO trail (id, failures, crashes, interruptions, band, pos, due_at, solo, last_error)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET failures = excluded.failures, crashes = excluded.crashes,
  interruptions = excluded.interruptions, band = excluded.band, pos = excluded.pos, due_at = excluded.due_at,
  solo = excluded.solo, last_error = coalesce(excluded.last_error, last_error)
