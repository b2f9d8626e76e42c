SELECT job.id, outcome.state FROM queue JOIN job ON job.queue = queue.id LEFT JOIN outcome ON outcome.id = job.id
WHERE queue.name = ?1 AND job.id > ?2 ORDER BY job.id LIMIT ?3
