SELECT id, kind FROM step WHERE flow = ? AND kind IN (0, 1) AND name = ?
