DELETE FROM ended_step WHERE id IN (SELECT value FROM json_each(?))
