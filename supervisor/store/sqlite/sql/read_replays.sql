SELECT id, created_at, chosen, jobs_max, pace_jobs, pace_ms, canary, stop_on_failure, end_id, state, reason, after_id,
       next_us, matched, released, completed, failed, gone, ended_at
FROM replay ORDER BY id DESC LIMIT ?
