SELECT id FROM letter WHERE fingerprint = ?1 AND id > ?2 AND (?3 IS NULL OR queue = ?3) ORDER BY id LIMIT ?4
