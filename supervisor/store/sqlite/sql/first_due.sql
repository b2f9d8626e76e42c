SELECT coalesce(options ->> 'since_ms', due_at, enqueued_at) FROM job WHERE id = ?
