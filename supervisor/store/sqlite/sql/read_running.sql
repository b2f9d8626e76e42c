SELECT held.value ->> 0 AS id FROM lease CROSS JOIN json_each(lease.jobs) AS held
WHERE held.value ->> 0 < :before AND NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = held.value ->> 0)
  AND (:queue IS NULL OR lease.queue = (SELECT id FROM queue WHERE name = :queue))
ORDER BY id DESC LIMIT :limit
