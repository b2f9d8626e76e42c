SELECT token, consumer, boot, until_boot, lease_ms, until_at, key, prolonged FROM loan
