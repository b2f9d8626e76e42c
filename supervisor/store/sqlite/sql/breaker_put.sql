INSERT OR REPLACE INTO breaker (queue, phase, failed_at, opened_at, until_at, cooldown, probe, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
