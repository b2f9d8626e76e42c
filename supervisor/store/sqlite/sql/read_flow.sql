SELECT id, name, state, parent, scope, open, steps, unfinished, dead, cancelled, skipped, created_at, finished_at, context
FROM flow WHERE id = ?
