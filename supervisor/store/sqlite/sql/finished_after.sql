SELECT page.id, queue.name, page.state, page.finished_at
FROM (SELECT id, state, finished_at FROM outcome WHERE id > ?1 ORDER BY id LIMIT ?2) AS page
CROSS JOIN job ON job.id = page.id JOIN queue ON queue.id = job.queue
WHERE page.finished_at < ?3 ORDER BY page.id
