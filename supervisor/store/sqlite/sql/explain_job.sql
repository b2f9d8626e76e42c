SELECT job.id, queue.id, queue.name, queue.paused, lane.id, lane.key, lane.paused, lane.held, lane.doom,
       lane.a, lane.b, lane.c, outcome.state, outcome.reason,
       CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END,
       coalesce(trail.band, job.band), coalesce(trail.pos, job.pos), job.options, trail.last_error,
       coalesce(trail.failures, 0) + coalesce(trail.crashes, 0),
       EXISTS (SELECT 1 FROM ready WHERE ready.lane = job.lane AND ready.band = coalesce(trail.band, job.band)
               AND ready.pos = coalesce(trail.pos, job.pos) AND ready.id = job.id),
       blocked.task, blocked.version, blocked.waits
FROM job JOIN queue ON queue.id = job.queue JOIN lane ON lane.id = job.lane
LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN trail ON trail.id = job.id
LEFT JOIN blocked ON blocked.id = job.id
WHERE job.id = ?
