DELETE FROM signal WHERE id IN (SELECT value FROM json_each(?))
