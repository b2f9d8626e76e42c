SELECT id, CASE WHEN length(CAST(queue AS BLOB)) <= 1000 THEN queue END, length(CAST(queue AS BLOB)),
       CASE WHEN length(CAST(payload AS BLOB)) <= ?4 THEN payload END, length(CAST(payload AS BLOB)),
       CASE WHEN length(CAST(options AS BLOB)) <= 65536 THEN options END, length(CAST(options AS BLOB)),
       substr(CAST(created_at AS TEXT), 1, 40), substr(CAST(error AS TEXT), 1, 500)
FROM jobsup_outbox INDEXED BY jobsup_outbox_waiting
WHERE error IS NULL AND id > ?1 AND CAST(queue AS TEXT) = ?2
ORDER BY id LIMIT ?3
