SELECT ahead.key, job.options FROM (
  SELECT id, key FROM lane WHERE queue = ? AND a IS NOT NULL AND (a, b, c, id) < (?, ?, ?, ?) ORDER BY a, b, c, id LIMIT ?
) AS ahead CROSS JOIN ready ON ready.lane = ahead.id AND (ready.band, ready.pos, ready.id) = (
  SELECT first.band, first.pos, first.id FROM ready AS first WHERE first.lane = ahead.id
  ORDER BY first.band, first.pos, first.id LIMIT 1
) CROSS JOIN job ON job.id = ready.id
