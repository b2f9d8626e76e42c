SELECT lane.key, lane.paused, lane.held, lane.doom, lane.gate,
       CASE WHEN blocked.id IS NOT NULL THEN 'blocked' ELSE outcome.state END,
       CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END,
       (SELECT count(*) FROM (SELECT 1 FROM ready WHERE ready.lane = lane.id LIMIT 10000))
FROM lane JOIN queue ON queue.id = lane.queue LEFT JOIN job ON job.id = lane.held
LEFT JOIN outcome ON outcome.id = lane.held LEFT JOIN trail ON trail.id = lane.held
LEFT JOIN blocked ON blocked.id = lane.held
WHERE queue.name = :queue AND (:after IS NULL OR lane.key > :after)
  AND (:all OR lane.paused OR lane.held IS NOT NULL OR lane.doom IS NOT NULL OR lane.gate IS NOT NULL)
ORDER BY lane.key LIMIT :limit
