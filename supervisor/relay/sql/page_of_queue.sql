SELECT id, queue, CASE WHEN length(CAST(payload AS BLOB)) <= ?4 THEN payload END, length(CAST(payload AS BLOB)),
       CASE WHEN length(CAST(options AS BLOB)) <= ?4 THEN options END, length(CAST(options AS BLOB)), created_at, error
FROM jobsup_outbox INDEXED BY jobsup_outbox_waiting
WHERE error IS NULL AND id > ?1 AND CAST(queue AS TEXT) = ?2
ORDER BY id LIMIT ?3
