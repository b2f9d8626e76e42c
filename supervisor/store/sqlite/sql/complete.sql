INSERT INTO outcome (id, state, attempt, token, started_at, finished_at, result) VALUES (?, 'completed', ?, ?, ?, ?, ?)
