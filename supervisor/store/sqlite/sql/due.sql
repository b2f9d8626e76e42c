SELECT scheduled.due_at, scheduled.id, job.lane, job.priority, lane.queue,
       coalesce(trail.failures, 0), coalesce(trail.crashes, 0), coalesce(trail.interruptions, 0),
       trail.id IS NOT NULL, coalesce(trail.solo, 0)
FROM scheduled CROSS JOIN job ON job.id = scheduled.id JOIN lane ON lane.id = job.lane
LEFT JOIN trail ON trail.id = job.id
WHERE scheduled.due_at <= ? ORDER BY scheduled.due_at, scheduled.id LIMIT ?
