SELECT id FROM job WHERE lane = ? AND id > ? ORDER BY id LIMIT ?
