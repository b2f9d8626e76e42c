SELECT id, kind FROM step WHERE flow = ? AND kind < 2 AND name = ?
