SELECT id, waits FROM blocked WHERE id IN (SELECT value FROM json_each(?)) AND waits > 0
