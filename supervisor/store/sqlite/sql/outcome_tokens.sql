SELECT DISTINCT token FROM outcome WHERE id IN (SELECT value FROM json_each(?))
