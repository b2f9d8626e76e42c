SELECT outcome.finished_at, attempt.message, attempt.detail
FROM outcome LEFT JOIN attempt ON attempt.id = outcome.id WHERE outcome.id = ? ORDER BY attempt.seq DESC LIMIT 1
