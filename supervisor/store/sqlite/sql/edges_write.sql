UPDATE edge SET done = 1 WHERE parent = ?1 AND done = 0
  AND EXISTS (SELECT 1 FROM outcome WHERE outcome.id = ?1 AND outcome.state = 'completed')
  AND NOT EXISTS (SELECT 1 FROM ended_step WHERE ended_step.id = ?1)
