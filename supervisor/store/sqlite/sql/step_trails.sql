INSERT INTO trail (id, failures, crashes, interruptions, band, pos, due_at, solo, ready_at)
SELECT CAST(key AS INTEGER), 0, 0, 0, ?1, value, NULL, 0, ?2 FROM json_each(?3) WHERE true
ON CONFLICT (id) DO UPDATE SET band = excluded.band, pos = excluded.pos, due_at = excluded.due_at, ready_at = excluded.ready_at
