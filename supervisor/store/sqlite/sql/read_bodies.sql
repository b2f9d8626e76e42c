SELECT job.id, queue.name AS queue, job.payload
FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value JOIN queue ON queue.id = job.queue
