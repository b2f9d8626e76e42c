SELECT job.id, coalesce(trail.ready_at, job.due_at, job.enqueued_at)
FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value LEFT JOIN trail ON trail.id = job.id
