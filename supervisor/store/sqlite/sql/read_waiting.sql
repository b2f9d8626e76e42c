WITH RECURSIVE front (queue, lane) AS (
  SELECT queue.id, lane.id FROM queue JOIN lane ON lane.queue = queue.id AND lane.key = ''
  WHERE queue.id BETWEEN ?1 AND ?2
  UNION ALL
  SELECT queue.id, (SELECT lane.id FROM lane WHERE lane.queue = queue.id AND lane.a IS NOT NULL
                    ORDER BY lane.a, lane.b, lane.c LIMIT 1) FROM queue WHERE queue.id BETWEEN ?1 AND ?2
), level (queue, lane, band) AS (
  SELECT queue, lane, (SELECT min(ready.band) FROM ready WHERE ready.lane = front.lane) FROM front
  UNION ALL
  SELECT queue, lane, (SELECT min(ready.band) FROM ready WHERE ready.lane = level.lane AND ready.band > level.band)
  FROM level WHERE level.band IS NOT NULL
)
SELECT level.queue, min(max(job.enqueued_at, coalesce(job.due_at, 0), coalesce(
  (SELECT max(attempt.at) FROM attempt WHERE attempt.id = job.id), 0)))
FROM level CROSS JOIN ready ON ready.lane = level.lane AND ready.band = level.band AND ready.pos IN (
  (SELECT min(ends.pos) FROM ready AS ends WHERE ends.lane = level.lane AND ends.band = level.band),
  (SELECT max(ends.pos) FROM ready AS ends WHERE ends.lane = level.lane AND ends.band = level.band)
)
CROSS JOIN job ON job.id = ready.id GROUP BY level.queue
