SELECT queue.name FROM job JOIN queue ON queue.id = job.queue WHERE job.id = ?
