SELECT edge.parent, edge.policy, step.kind, outcome.state, step.skipped, signal.at
FROM edge JOIN step ON step.id = edge.parent LEFT JOIN outcome ON outcome.id = edge.parent
LEFT JOIN signal ON signal.id = CASE step.kind WHEN 2 THEN step.id END
WHERE edge.child = ?
