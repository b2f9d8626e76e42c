INSERT INTO claim (schedule, due_at, outcome, at)
SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM claim WHERE schedule = ?1 AND due_at >= ?2)
