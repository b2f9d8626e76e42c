SELECT edge.parent, step.kind, outcome.state, step.skipped, step.flow
FROM edge JOIN step ON step.id = edge.parent LEFT JOIN outcome ON outcome.id = edge.parent
WHERE edge.child = ?
