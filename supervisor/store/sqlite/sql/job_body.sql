SELECT payload, priority, options, due_at FROM job WHERE id = ?
