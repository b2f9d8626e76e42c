SELECT max(id) FROM (SELECT id FROM outcome WHERE id > ?1 ORDER BY id LIMIT ?2)
