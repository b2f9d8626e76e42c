SELECT job.id FROM job LEFT JOIN trail ON trail.id = job.id
WHERE job.id < :before AND EXISTS (
  SELECT 1 FROM ready WHERE ready.lane = job.lane
  AND ready.band = coalesce(trail.band, job.band) AND ready.pos = coalesce(trail.pos, job.pos) AND ready.id = job.id
)
ORDER BY job.id DESC LIMIT :limit
