SELECT token, consumer, boot, until_boot, lease_ms, until_at, key, carried FROM loan
