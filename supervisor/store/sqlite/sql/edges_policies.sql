SELECT DISTINCT policy FROM edge WHERE parent = ?
