INSERT INTO bucket (name, key, state, until) VALUES (?, ?, ?, ?)
ON CONFLICT (name, key) DO UPDATE SET state = excluded.state, until = excluded.until
