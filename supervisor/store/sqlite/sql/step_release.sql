SELECT job.id, job.queue, job.lane, job.priority, coalesce(trail.failures, 0), coalesce(trail.crashes, 0),
       coalesce(trail.interruptions, 0), coalesce(trail.solo, 0), step.flow, step.rules
FROM json_each(?) AS free CROSS JOIN job ON job.id = free.value JOIN step ON step.id = job.id
LEFT JOIN trail ON trail.id = job.id
