SELECT id, queue, CASE WHEN length(CAST(payload AS BLOB)) <= ?3 THEN payload END, length(CAST(payload AS BLOB)),
       CASE WHEN length(CAST(options AS BLOB)) <= ?3 THEN options END, length(CAST(options AS BLOB)), created_at, error
FROM jobsup_outbox INDEXED BY jobsup_outbox_refused
WHERE error IS NOT NULL AND id > ?1
ORDER BY id LIMIT ?2
