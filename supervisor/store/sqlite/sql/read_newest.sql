SELECT max(job.enqueued_at) FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value
