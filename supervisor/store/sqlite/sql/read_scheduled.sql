SELECT scheduled.id FROM scheduled CROSS JOIN job ON job.id = scheduled.id
WHERE scheduled.id < :before
  AND (:queue IS NULL OR job.lane = (SELECT id FROM lane WHERE queue = :queue AND key = ''))
ORDER BY scheduled.id DESC LIMIT :limit
