INSERT INTO flow (id, name, state, parent, root, scope, open, steps, unfinished, created_at, callbacks, context)
VALUES (?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?)
