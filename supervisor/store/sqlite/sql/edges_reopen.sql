UPDATE edge SET done = 0 WHERE child = ?1 AND parent IN (SELECT value FROM json_each(?2))
