DELETE FROM trail WHERE id IN (SELECT value FROM json_each(?))
