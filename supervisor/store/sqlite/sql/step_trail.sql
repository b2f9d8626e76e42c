INSERT INTO trail (id, failures, crashes, interruptions, band, pos, due_at, solo, ready_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET band = excluded.band, pos = excluded.pos, due_at = excluded.due_at, ready_at = excluded.ready_at
