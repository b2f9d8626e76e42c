SELECT scheduled.due_at, scheduled.id, job.lane, job.queue, job.priority,
       coalesce(trail.failures, 0), coalesce(trail.crashes, 0), coalesce(trail.interruptions, 0),
       trail.id IS NOT NULL, coalesce(trail.solo, 0)
FROM scheduled CROSS JOIN job ON job.id = scheduled.id LEFT JOIN trail ON trail.id = job.id
WHERE scheduled.due_at <= ? ORDER BY scheduled.due_at, scheduled.id LIMIT ?
