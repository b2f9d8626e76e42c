UPDATE schedule SET
  handled_at = max(handled_at, ?2), next_due_at = ?3, next_fire_at = ?4, outage = ?5, waiting_due_at = ?6,
  last_job_id = ?7, last_due_at = ?8, last_fired_at = ?9, outcome = ?10, outcome_at = ?11, reason = ?12,
  fired = ?13, skipped = ?14, missed = ?15, failed = ?16
WHERE name = ?1
