SELECT due_at, outcome, at, job_id FROM claim WHERE schedule = ? ORDER BY due_at DESC LIMIT ?
