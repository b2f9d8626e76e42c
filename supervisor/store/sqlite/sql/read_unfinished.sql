SELECT job.id FROM job JOIN lane ON lane.id = job.lane
WHERE job.id < ?1 AND (?2 IS NULL OR lane.queue = ?2)
  AND NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = job.id)
ORDER BY job.id DESC LIMIT ?3
