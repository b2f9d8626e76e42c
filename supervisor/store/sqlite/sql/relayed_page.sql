SELECT id FROM relayed WHERE instance = ?1 AND id > ?2 ORDER BY id LIMIT ?3
