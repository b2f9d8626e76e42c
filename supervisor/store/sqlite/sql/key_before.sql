SELECT job.id, outcome.state FROM job LEFT JOIN outcome ON outcome.id = job.id
WHERE job.lane = ?1 AND job.lane > job.queue AND job.id < ?2 ORDER BY job.id DESC LIMIT ?3
