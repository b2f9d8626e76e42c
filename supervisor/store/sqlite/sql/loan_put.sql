INSERT INTO loan (token, consumer, boot, until_boot, lease_ms, until_at, key, prolonged) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (token) DO UPDATE SET boot = excluded.boot, until_boot = excluded.until_boot, lease_ms = excluded.lease_ms,
  until_at = excluded.until_at, prolonged = excluded.prolonged
