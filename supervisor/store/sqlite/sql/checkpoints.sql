SELECT id, name, value FROM checkpoint WHERE id IN (SELECT value FROM json_each(?))
