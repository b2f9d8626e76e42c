INSERT INTO checkpoint (id, name, at, value) VALUES (?, ?, ?, ?)
ON CONFLICT (id, name) DO UPDATE SET at = excluded.at, value = excluded.value
