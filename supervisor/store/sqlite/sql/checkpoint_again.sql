UPDATE checkpoint SET at = ?, value = ? WHERE id = ? AND name = ?
