UPDATE edge SET done = 1 WHERE parent IN (SELECT value FROM json_each(?)) AND done = 0
