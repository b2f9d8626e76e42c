SELECT job.id, outcome.state FROM lane JOIN job ON job.lane = lane.id LEFT JOIN outcome ON outcome.id = job.id
WHERE lane.queue = ?1 AND lane.key = '' AND job.id > ?2 ORDER BY job.id LIMIT ?3
