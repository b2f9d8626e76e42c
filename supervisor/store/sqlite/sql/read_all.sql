SELECT id FROM job WHERE id < :before ORDER BY id DESC LIMIT :limit
