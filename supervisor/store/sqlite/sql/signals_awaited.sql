SELECT name FROM step WHERE flow = ? AND kind = 2 AND name IS NOT NULL
  AND EXISTS (SELECT 1 FROM edge WHERE edge.parent = step.id)
