SELECT job.id, job.lane, queue.name, outcome.state,
       coalesce(trail.band, job.band), coalesce(trail.pos, job.pos),
       CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END, job.priority, coalesce(trail.solo, 0),
       coalesce(trail.failures, 0), coalesce(trail.crashes, 0), coalesce(trail.interruptions, 0), blocked.id IS NOT NULL
FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value
JOIN queue ON queue.id = job.queue LEFT JOIN trail ON trail.id = job.id LEFT JOIN outcome ON outcome.id = job.id
LEFT JOIN blocked ON blocked.id = job.id
