SELECT first_id, jobs, ids FROM request WHERE key = ?
