SELECT id, name, state, parent, root, scope, open, steps, unfinished, dead, cancelled, skipped, told, bytes, created_at,
       finished_at, callbacks
FROM flow WHERE id = ?
