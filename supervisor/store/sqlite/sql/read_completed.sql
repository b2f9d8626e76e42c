SELECT outcome.id FROM outcome CROSS JOIN job ON job.id = outcome.id
WHERE outcome.id < :before AND outcome.state = 'completed'
  AND (:queue IS NULL OR job.lane = (SELECT id FROM lane WHERE queue = :queue AND key = ''))
ORDER BY outcome.id DESC LIMIT :limit
