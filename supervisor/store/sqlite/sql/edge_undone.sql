UPDATE edge SET done = 0 WHERE parent = ? AND child = ?
