SELECT job.id, queue.name, job.payload, outcome.state,
       :text IS NULL OR coalesce(instr(trail.last_error, :text), 0) > 0
FROM json_each(:ids) AS wanted CROSS JOIN job ON job.id = wanted.value JOIN queue ON queue.id = job.queue
LEFT JOIN outcome ON outcome.id = job.id LEFT JOIN trail ON trail.id = job.id
WHERE (:key IS NULL OR EXISTS (SELECT 1 FROM lane WHERE lane.id = job.lane AND lane.key = :key))
  AND (:since IS NULL OR CASE WHEN :finished THEN outcome.finished_at ELSE job.enqueued_at END >= :since)
  AND (:until IS NULL OR CASE WHEN :finished THEN outcome.finished_at ELSE job.enqueued_at END < :until)
  AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(job.options, '$.tags') AS tag WHERE tag.value = :tag))
  AND (:task IS NULL OR job.options ->> '$.task' = :task)
  AND (:type IS NULL OR :type = (
    SELECT attempt.detail ->> 'type' FROM attempt WHERE attempt.id = job.id ORDER BY attempt.seq DESC LIMIT 1
  ))
  AND (:text IS NULL OR instr(job.payload, :text) > 0 OR instr(job.payload, :quoted) > 0
    OR instr(trail.last_error, :text) > 0)
