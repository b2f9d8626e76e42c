SELECT child, parent FROM edge WHERE child IN (SELECT value FROM json_each(?)) ORDER BY child, parent LIMIT ?
