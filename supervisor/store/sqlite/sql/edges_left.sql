SELECT count(*) FROM edge WHERE child = ? AND done = 0
