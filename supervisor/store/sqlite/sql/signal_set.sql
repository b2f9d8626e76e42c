UPDATE signal SET at = ?2, payload = ?3 WHERE id = ?1 AND at IS NULL
