INSERT INTO trail (id, failures, crashes, interruptions, band, pos, due_at, solo, ready_at)
SELECT value, 0, 0, 0, ?1, ?2 + ?3 * key, NULL, 0, ?4 FROM json_each(?5) WHERE true
ON CONFLICT (id) DO UPDATE SET band = excluded.band, pos = excluded.pos, due_at = excluded.due_at, ready_at = excluded.ready_at
