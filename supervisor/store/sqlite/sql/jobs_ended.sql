SELECT job.id, outcome.state FROM json_each(?) AS wanted CROSS JOIN job ON job.id = wanted.value
LEFT JOIN outcome ON outcome.id = job.id
