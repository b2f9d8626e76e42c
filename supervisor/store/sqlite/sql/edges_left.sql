SELECT count(*) FROM edge WHERE child = ?1 AND done = 0 AND (
  parent IN (SELECT value FROM json_each(?2))
  OR NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = edge.parent AND outcome.state = 'completed')
  OR EXISTS (SELECT 1 FROM ended_step WHERE ended_step.id = edge.parent)
)
