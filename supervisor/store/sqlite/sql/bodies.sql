SELECT id, priority, enqueued_at, due_at, options, payload FROM job WHERE id IN (SELECT value FROM json_each(?))
