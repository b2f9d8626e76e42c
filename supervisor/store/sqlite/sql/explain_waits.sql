SELECT step.id, step.kind, step.name, coalesce(flow.state, '') FROM edge CROSS JOIN step ON step.id = edge.parent
LEFT JOIN flow ON flow.id = step.id AND step.kind = 1
WHERE edge.child = ? AND NOT edge.done ORDER BY step.id LIMIT 6
