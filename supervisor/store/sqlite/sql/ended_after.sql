SELECT outcome.id, queue.name, outcome.state, outcome.finished_at
FROM outcome CROSS JOIN job ON job.id = outcome.id JOIN queue ON queue.id = job.queue
WHERE outcome.state <> 'completed' AND outcome.state = ?1 AND outcome.id > ?2 ORDER BY outcome.id LIMIT ?3
