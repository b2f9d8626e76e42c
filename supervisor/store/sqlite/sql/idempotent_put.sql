INSERT INTO idempotent (queue, key, id) VALUES (?, ?, ?)
