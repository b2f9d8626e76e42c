INSERT INTO source (pool, source, vtime) VALUES (?, ?, ?)
ON CONFLICT (pool, source) DO UPDATE SET vtime = excluded.vtime
