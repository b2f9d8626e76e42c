SELECT count(*) FROM (
  SELECT 1 FROM lane WHERE queue = ? AND a IS NOT NULL AND (a, b, c, id) < (?, ?, ?, ?) LIMIT ?
)
