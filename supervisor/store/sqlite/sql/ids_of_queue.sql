SELECT id FROM job WHERE queue = ? AND id > ? ORDER BY id LIMIT ?
