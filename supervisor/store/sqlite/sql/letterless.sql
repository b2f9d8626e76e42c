SELECT outcome.id, queue.name, outcome.finished_at, outcome.reason, letter.id IS NOT NULL,
       (SELECT max(seq) FROM attempt WHERE attempt.id = outcome.id)
FROM outcome CROSS JOIN job ON job.id = outcome.id JOIN queue ON queue.id = job.queue
LEFT JOIN letter ON letter.id = outcome.id
WHERE outcome.state <> 'completed' AND outcome.state = 'dead' AND outcome.id < ?1 ORDER BY outcome.id DESC LIMIT ?2
