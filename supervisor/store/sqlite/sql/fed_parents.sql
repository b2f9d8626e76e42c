SELECT step.name, step.kind, coalesce(flow.state, outcome.state), step.skipped, outcome.result, signal.at, signal.payload
FROM edge CROSS JOIN step ON step.id = edge.parent LEFT JOIN outcome ON outcome.id = edge.parent
LEFT JOIN flow ON flow.id = edge.parent AND step.kind = 1 LEFT JOIN signal ON signal.id = edge.parent AND step.kind = 2
WHERE edge.child = ? AND step.name IS NOT NULL LIMIT 10000
