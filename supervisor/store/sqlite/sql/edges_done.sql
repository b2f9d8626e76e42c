UPDATE edge SET done = 1 WHERE parent = ? AND done = 0
