INSERT INTO queue (id, name, ranking)
SELECT 1 + max((SELECT coalesce(max(id), 0) FROM queue), (SELECT coalesce(max(id), 0) FROM lane)), ?1, ?2 RETURNING id
