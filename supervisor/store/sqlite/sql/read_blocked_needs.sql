SELECT queue.name, blocked.task, blocked.version, count(*) FROM blocked JOIN queue ON queue.id = blocked.queue
WHERE blocked.waits = 0 GROUP BY blocked.queue, blocked.task, blocked.version ORDER BY queue.name, blocked.task, blocked.version
