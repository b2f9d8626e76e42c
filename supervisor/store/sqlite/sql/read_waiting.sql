WITH RECURSIVE level (lane, band) AS (
  SELECT lane.id, (SELECT min(ready.band) FROM ready WHERE ready.lane = lane.id) FROM lane
  UNION ALL
  SELECT level.lane, (SELECT min(ready.band) FROM ready WHERE ready.lane = level.lane AND ready.band > level.band)
  FROM level WHERE level.band IS NOT NULL
)
SELECT lane.queue, min(max(job.enqueued_at, coalesce(job.due_at, 0), coalesce(trail.due_at, 0)))
FROM level CROSS JOIN lane ON lane.id = level.lane
CROSS JOIN ready ON ready.lane = level.lane AND ready.band = level.band AND ready.pos IN (
  (SELECT min(ends.pos) FROM ready AS ends WHERE ends.lane = level.lane AND ends.band = level.band),
  (SELECT max(ends.pos) FROM ready AS ends WHERE ends.lane = level.lane AND ends.band = level.band)
)
CROSS JOIN job ON job.id = ready.id LEFT JOIN trail ON trail.id = ready.id GROUP BY lane.queue
