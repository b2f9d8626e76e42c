INSERT INTO task (pool, name, version, oldest, aliases, schema) VALUES (?, ?, ?, ?, ?, ?)
