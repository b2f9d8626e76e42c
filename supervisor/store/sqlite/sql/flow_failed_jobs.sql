WITH RECURSIVE inside (id) AS (VALUES (?1) UNION ALL SELECT flow.id FROM inside CROSS JOIN flow ON flow.parent = inside.id)
SELECT 1 FROM inside CROSS JOIN step ON step.flow = inside.id CROSS JOIN outcome ON outcome.id = step.id
WHERE outcome.state <> 'completed' LIMIT 1
