SELECT outcome.id, queue.name, outcome.state, outcome.finished_at
FROM outcome CROSS JOIN job ON job.id = outcome.id JOIN queue ON queue.id = job.queue
WHERE outcome.id > ? ORDER BY outcome.id LIMIT ?
