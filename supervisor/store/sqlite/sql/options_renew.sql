UPDATE job
SET options = json_set(json_remove(coalesce(options, '{}'), '$.deadline_at_ms', '$.expires_at_ms'), '$.since_ms', ?2)
WHERE id = ?1
