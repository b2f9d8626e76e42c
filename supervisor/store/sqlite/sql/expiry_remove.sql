DELETE FROM expiry WHERE at = ? AND id = ? AND ttl = ?
