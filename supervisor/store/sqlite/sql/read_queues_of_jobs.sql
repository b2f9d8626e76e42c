SELECT job.id, queue.name FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value
JOIN queue ON queue.id = job.queue
