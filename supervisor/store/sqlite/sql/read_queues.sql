SELECT id, name FROM queue WHERE id > ?1 ORDER BY id LIMIT ?2
