WITH RECURSIVE inside (id) AS (VALUES (?1) UNION SELECT flow.id FROM flow JOIN inside ON flow.parent = inside.id WHERE flow.root = ?2)
SELECT id FROM inside
