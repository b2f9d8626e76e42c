SELECT id FROM job WHERE queue = (SELECT id FROM queue WHERE name = :queue) AND id < :before
ORDER BY id DESC LIMIT :limit
