WITH RECURSIVE inside (id) AS (VALUES (?1) UNION ALL SELECT flow.id FROM inside CROSS JOIN flow ON flow.parent = inside.id)
SELECT id FROM inside
