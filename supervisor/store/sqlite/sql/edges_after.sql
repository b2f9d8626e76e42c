WITH RECURSIVE following (id) AS (
  VALUES (?1)
  UNION SELECT edge.child FROM following JOIN edge ON edge.parent = following.id
  UNION SELECT step.flow FROM following JOIN step ON step.id = following.id WHERE step.flow <> ?2
) SELECT id FROM following LIMIT ?3
