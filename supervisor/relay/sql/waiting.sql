SELECT count(*) FROM (
  SELECT 1 FROM jobsup_outbox INDEXED BY jobsup_outbox_waiting WHERE error IS NULL LIMIT ?1
)
