INSERT INTO replay (created_at, chosen, jobs_max, pace_jobs, pace_ms, canary, stop_on_failure, end_id, state, after_id,
  next_us, matched, released, completed, failed, gone)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'choosing', 0, 0, 0, 0, 0, 0, 0) RETURNING id
