SELECT scheduled.id FROM scheduled CROSS JOIN job ON job.id = scheduled.id
WHERE scheduled.id < :before
  AND (:queue IS NULL OR job.queue = (SELECT id FROM queue WHERE name = :queue))
ORDER BY scheduled.id DESC LIMIT :limit
