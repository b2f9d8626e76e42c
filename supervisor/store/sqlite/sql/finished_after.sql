SELECT outcome.id, lane.queue, outcome.state, outcome.finished_at
FROM outcome CROSS JOIN job ON job.id = outcome.id JOIN lane ON lane.id = job.lane
WHERE outcome.id > ? ORDER BY outcome.id LIMIT ?
