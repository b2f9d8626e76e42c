SELECT edge.child, sum(length(CAST(outcome.result AS BLOB)))
FROM json_each(?1) AS free CROSS JOIN edge ON edge.child = free.value CROSS JOIN step ON step.id = edge.parent
CROSS JOIN outcome ON outcome.id = edge.parent
WHERE step.name IS NOT NULL AND outcome.result IS NOT NULL GROUP BY edge.child HAVING sum(length(CAST(outcome.result AS BLOB))) > ?2
