SELECT name, origin, paused, handled_at, next_due_at, next_fire_at, outage, waiting_due_at,
       last_job_id, last_due_at, last_fired_at, outcome, outcome_at, reason, fired, skipped, missed, failed, definition
FROM schedule WHERE next_fire_at <= ? ORDER BY next_fire_at LIMIT ?
