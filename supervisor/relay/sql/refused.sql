SELECT count(*) FROM (
  SELECT 1 FROM jobsup_outbox INDEXED BY jobsup_outbox_refused WHERE error IS NOT NULL LIMIT ?1
)
