DELETE FROM attempt WHERE id IN (SELECT value FROM json_each(?))
