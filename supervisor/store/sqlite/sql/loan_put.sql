INSERT INTO loan (token, consumer, boot, until_boot, lease_ms, until_at, key, carried) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (token) DO UPDATE SET boot = excluded.boot, until_boot = excluded.until_boot, lease_ms = excluded.lease_ms,
  until_at = excluded.until_at, carried = excluded.carried
