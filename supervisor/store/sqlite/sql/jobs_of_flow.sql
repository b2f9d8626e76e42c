SELECT id FROM step WHERE flow = ? AND id > ? AND kind = 0 ORDER BY id LIMIT ?
