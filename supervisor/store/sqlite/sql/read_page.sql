SELECT job.id, queue.name, NULL, job.priority, job.options, job.enqueued_at, job.due_at,
       outcome.state, outcome.attempt, outcome.token, outcome.started_at, outcome.finished_at, outcome.result, outcome.reason,
       trail.failures, trail.crashes, trail.interruptions, trail.due_at, trail.last_error, trail.id IS NOT NULL, lane.key, blocked.id
FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value
JOIN queue ON queue.id = job.queue JOIN lane ON lane.id = job.lane LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN trail ON trail.id = job.id
LEFT JOIN blocked ON blocked.id = job.id
ORDER BY job.id DESC
