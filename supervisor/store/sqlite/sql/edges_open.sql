SELECT child, policy FROM edge WHERE parent = ? AND done = 0 LIMIT ?
