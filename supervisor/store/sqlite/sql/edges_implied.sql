SELECT parent FROM edge WHERE child = ? AND done = 0
  AND EXISTS (SELECT 1 FROM outcome WHERE outcome.id = edge.parent AND outcome.state = 'completed')
  AND NOT EXISTS (SELECT 1 FROM ended_step WHERE ended_step.id = edge.parent)
