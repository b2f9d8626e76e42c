SELECT id FROM lane WHERE +queue = ? AND id > ? AND key <> '' ORDER BY id LIMIT ?
