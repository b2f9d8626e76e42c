SELECT wanted.value FROM json_each(?) AS wanted LEFT JOIN job ON job.id = wanted.value
LEFT JOIN outcome ON outcome.id = wanted.value LEFT JOIN flow ON flow.id = wanted.value
WHERE outcome.id IS NOT NULL OR flow.finished_at IS NOT NULL OR (job.id IS NULL AND flow.id IS NULL)
