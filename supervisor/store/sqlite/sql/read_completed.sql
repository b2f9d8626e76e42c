SELECT outcome.id FROM outcome CROSS JOIN job ON job.id = outcome.id
WHERE outcome.id < :before AND outcome.state = 'completed'
  AND (:queue IS NULL OR job.queue = (SELECT id FROM queue WHERE name = :queue))
ORDER BY outcome.id DESC LIMIT :limit
