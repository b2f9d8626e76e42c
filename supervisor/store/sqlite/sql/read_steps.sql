WITH RECURSIVE inside (id) AS (VALUES (?1) UNION ALL SELECT flow.id FROM inside CROSS JOIN flow ON flow.parent = inside.id)
SELECT step.id, step.flow, step.kind, step.name, step.skipped, queue.name, coalesce(outcome.state, flow.state),
       coalesce(outcome.started_at, flow.created_at), coalesce(outcome.finished_at, flow.finished_at), outcome.reason,
       blocked.waits, blocked.id, CASE WHEN trail.id IS NULL THEN job.due_at ELSE trail.due_at END, signal.at,
       trail.last_error
FROM inside CROSS JOIN step ON step.flow = inside.id LEFT JOIN job ON job.id = step.id
LEFT JOIN queue ON queue.id = job.queue LEFT JOIN outcome ON outcome.id = step.id
LEFT JOIN flow ON flow.id = step.id AND step.kind = 1 LEFT JOIN signal ON signal.id = step.id AND step.kind = 2
LEFT JOIN blocked ON blocked.id = step.id LEFT JOIN trail ON trail.id = step.id
ORDER BY step.id LIMIT ?2
