SELECT parent, child, policy FROM edge WHERE parent IN (SELECT value FROM json_each(?)) AND done = 0
ORDER BY parent, child LIMIT ?
