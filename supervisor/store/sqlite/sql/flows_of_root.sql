SELECT id FROM flow WHERE root = ?1 AND id <> ?1 ORDER BY id LIMIT ?2
