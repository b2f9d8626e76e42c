SELECT step.id, step.kind, step.name, coalesce(flow.state, '') FROM told_edge CROSS JOIN step ON step.id = told_edge.parent
LEFT JOIN flow ON flow.id = step.id AND step.kind = 1
WHERE told_edge.child = ? AND NOT told_edge.done ORDER BY step.id LIMIT 6
