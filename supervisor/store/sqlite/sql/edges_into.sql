SELECT edge.parent, step.kind, outcome.state, step.skipped, flow.state, signal.at
FROM edge JOIN step ON step.id = edge.parent LEFT JOIN outcome ON outcome.id = edge.parent
LEFT JOIN flow ON flow.id = edge.parent AND step.kind = 1 LEFT JOIN signal ON signal.id = edge.parent AND step.kind = 2
WHERE edge.child = ?
