SELECT id, counted FROM ended_step ORDER BY id LIMIT ?
