DELETE FROM replay WHERE id IN (SELECT id FROM replay ORDER BY id LIMIT ?2) AND ended_at < ?1
