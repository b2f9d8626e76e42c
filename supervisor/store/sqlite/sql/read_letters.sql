SELECT id FROM letter WHERE fingerprint = :fingerprint AND (:queue IS NULL OR queue = :queue) AND id < :before
ORDER BY id DESC LIMIT :limit
