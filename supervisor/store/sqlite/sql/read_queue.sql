SELECT id FROM job WHERE lane = (SELECT id FROM lane WHERE queue = :queue AND key = '') AND id < :before
ORDER BY id DESC LIMIT :limit
