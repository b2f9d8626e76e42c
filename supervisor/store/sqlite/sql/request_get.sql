SELECT first_id, jobs FROM request WHERE key = ?
