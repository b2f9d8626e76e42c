SELECT blocked.id FROM blocked CROSS JOIN job ON job.id = blocked.id
WHERE blocked.id < :before
  AND (:queue IS NULL OR job.queue = (SELECT id FROM queue WHERE name = :queue))
ORDER BY blocked.id DESC LIMIT :limit
