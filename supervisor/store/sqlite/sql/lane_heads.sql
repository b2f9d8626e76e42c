SELECT wanted.value, ready.band, ready.pos
FROM json_each(?) AS wanted LEFT JOIN ready ON ready.lane = wanted.value AND (ready.band, ready.pos, ready.id) = (
  SELECT first.band, first.pos, first.id FROM ready AS first WHERE first.lane = wanted.value
  ORDER BY first.band, first.pos, first.id LIMIT 1
)
