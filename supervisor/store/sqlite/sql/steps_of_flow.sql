SELECT id, kind FROM step WHERE flow = ? AND id > ? ORDER BY id LIMIT ?
