SELECT job.id, queue.name, job.priority, job.options,
       coalesce(trail.failures, 0), coalesce(trail.crashes, 0), coalesce(trail.interruptions, 0), trail.cancel_at, lane.key
FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value
JOIN queue ON queue.id = job.queue JOIN lane ON lane.id = job.lane LEFT JOIN trail ON trail.id = job.id
