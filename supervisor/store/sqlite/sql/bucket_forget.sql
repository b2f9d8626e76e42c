DELETE FROM bucket WHERE (name, key) IN (SELECT name, key FROM bucket WHERE until < ?1 ORDER BY until LIMIT ?2) RETURNING name, key
