DELETE FROM blocked WHERE id IN (SELECT value FROM json_each(?))
