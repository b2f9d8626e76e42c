SELECT min(due_at) FROM scheduled
