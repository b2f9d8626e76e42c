SELECT job.id, queue.name, lane.key
FROM lease CROSS JOIN json_each(lease.jobs) AS held CROSS JOIN job ON job.id = held.value ->> 0
JOIN queue ON queue.id = lease.queue JOIN lane ON lane.id = job.lane
WHERE NOT EXISTS (SELECT 1 FROM outcome WHERE outcome.id = job.id)
ORDER BY job.id
