INSERT INTO schedule (
  name, origin, paused, handled_at, next_due_at, next_fire_at, outage, waiting_due_at, last_job_id, last_due_at,
  last_fired_at, outcome, outcome_at, reason, fired, skipped, missed, failed, definition
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
  origin = excluded.origin, paused = excluded.paused, handled_at = excluded.handled_at,
  next_due_at = excluded.next_due_at, next_fire_at = excluded.next_fire_at, outage = excluded.outage,
  waiting_due_at = excluded.waiting_due_at, last_job_id = excluded.last_job_id, last_due_at = excluded.last_due_at,
  last_fired_at = excluded.last_fired_at, outcome = excluded.outcome, outcome_at = excluded.outcome_at,
  reason = excluded.reason, fired = excluded.fired, skipped = excluded.skipped, missed = excluded.missed,
  failed = excluded.failed, definition = excluded.definition
