DELETE FROM step WHERE id IN (SELECT value FROM json_each(?))
