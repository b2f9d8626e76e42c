SELECT job.id, outcome.id IS NOT NULL FROM job LEFT JOIN outcome ON outcome.id = job.id
WHERE job.queue = ? AND job.id >= ? ORDER BY job.id LIMIT ?
