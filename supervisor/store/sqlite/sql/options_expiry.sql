UPDATE job SET options = json_set(coalesce(options, '{}'), '$.expires_at_ms', ?2) WHERE id = ?1
