UPDATE blocked SET task = ?2, version = ?3 WHERE id = ?1 AND waits = 0
