INSERT OR IGNORE INTO expiry (at, id, ttl) VALUES (?, ?, ?)
