SELECT lane.id, queue.name FROM queue CROSS JOIN lane ON lane.queue = queue.id AND lane.key = ?1
WHERE queue.name = ?2 AND lane.key <> ''
