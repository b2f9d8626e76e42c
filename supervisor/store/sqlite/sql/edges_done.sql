UPDATE edge SET done = 1 WHERE parent = ?1 AND child IN (SELECT value FROM json_each(?2))
