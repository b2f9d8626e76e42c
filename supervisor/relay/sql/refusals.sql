SELECT id, substr(CAST(queue AS TEXT), 1, 63), substr(CAST(error AS TEXT), 1, 500)
FROM jobsup_outbox INDEXED BY jobsup_outbox_refused WHERE error IS NOT NULL ORDER BY id LIMIT ?1
