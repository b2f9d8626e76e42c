SELECT lane.id, ready.id, ready.band, ready.pos, ready.mark,
       job.priority, job.enqueued_at, job.due_at, job.options, job.payload
FROM lane CROSS JOIN ready ON ready.lane = lane.id AND (ready.band, ready.pos, ready.id) = (
  SELECT first.band, first.pos, first.id FROM ready AS first WHERE first.lane = lane.id
  ORDER BY first.band, first.pos, first.id LIMIT 1
) CROSS JOIN job ON job.id = ready.id
WHERE lane.queue = ? AND lane.a IS NOT NULL ORDER BY lane.a, lane.b, lane.c LIMIT ?
