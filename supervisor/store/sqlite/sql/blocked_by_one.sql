UPDATE blocked SET waits = 1 WHERE id IN (SELECT value FROM json_each(?))
