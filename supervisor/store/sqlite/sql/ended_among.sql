SELECT id FROM ended_step WHERE counted = 0 AND id IN (SELECT value FROM json_each(?))
