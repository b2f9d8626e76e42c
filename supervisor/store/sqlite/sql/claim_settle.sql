UPDATE claim SET outcome = ?3, job_id = ?4 WHERE schedule = ?1 AND due_at = ?2
