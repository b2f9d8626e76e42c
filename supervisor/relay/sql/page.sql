SELECT id, CASE WHEN octet_length(queue) <= 1000 THEN queue END, octet_length(queue),
       CASE WHEN octet_length(payload) <= ?4 THEN payload END, octet_length(payload),
       CASE WHEN octet_length(options) <= 65536 THEN options END, octet_length(options),
       substr(CAST(created_at AS TEXT), 1, 40), substr(CAST(error AS TEXT), 1, 500)
FROM jobsup_outbox INDEXED BY jobsup_outbox_waiting
WHERE error IS NULL AND id > ?1 AND CAST(queue AS TEXT) NOT IN (SELECT value FROM json_each(?2))
ORDER BY id LIMIT ?3
