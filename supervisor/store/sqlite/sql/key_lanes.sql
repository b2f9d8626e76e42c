SELECT lane.id, queue.name FROM lane CROSS JOIN queue ON queue.id = lane.queue
WHERE lane.key = ?1 AND lane.key <> '' LIMIT ?2
