SELECT at, id, ttl FROM expiry WHERE at <= ? ORDER BY at, id LIMIT ?
