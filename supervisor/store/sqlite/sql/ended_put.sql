INSERT INTO ended_step (id, counted) SELECT step.id, ?2 FROM step WHERE step.id IN (SELECT value FROM json_each(?1))
ON CONFLICT (id) DO UPDATE SET counted = min(counted, excluded.counted)
