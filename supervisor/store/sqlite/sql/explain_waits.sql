SELECT step.id, step.kind, step.name, coalesce(flow.state, '') FROM edge CROSS JOIN step ON step.id = edge.parent
LEFT JOIN flow ON flow.id = step.id AND step.kind = 1
WHERE edge.child = ? AND NOT edge.done AND (
  NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = edge.parent AND outcome.state = 'completed')
  OR EXISTS (SELECT 1 FROM ended_step WHERE ended_step.id = edge.parent)
) ORDER BY step.id LIMIT 6
