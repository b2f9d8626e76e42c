SELECT created_at FROM jobsup_outbox INDEXED BY jobsup_outbox_waiting WHERE error IS NULL ORDER BY id LIMIT 1
