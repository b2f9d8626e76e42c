INSERT INTO checkpoint (id, name, at, value) VALUES (?, ?, ?, ?)
