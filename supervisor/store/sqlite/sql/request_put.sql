INSERT INTO request (key, at, first_id, jobs, ids) VALUES (?, ?, ?, ?, ?)
