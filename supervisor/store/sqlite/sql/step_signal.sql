SELECT id FROM step WHERE flow = ? AND kind = 2 AND name = ?
