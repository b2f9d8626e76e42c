SELECT blocked.id, job.lane, job.priority, coalesce(trail.failures, 0), coalesce(trail.crashes, 0),
       coalesce(trail.interruptions, 0), coalesce(trail.solo, 0)
FROM blocked CROSS JOIN job ON job.id = blocked.id LEFT JOIN trail ON trail.id = job.id
WHERE blocked.waits = 0 AND blocked.queue = ? AND blocked.task = ? AND blocked.version = ? ORDER BY blocked.id LIMIT ?
