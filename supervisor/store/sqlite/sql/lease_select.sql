SELECT ready.id, ready.band, ready.pos, ready.mark, job.priority, job.enqueued_at, job.due_at, job.options, job.payload
FROM ready CROSS JOIN job ON job.id = ready.id
WHERE ready.lane = ? ORDER BY ready.band, ready.pos, ready.id LIMIT ?
