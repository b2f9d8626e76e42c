INSERT INTO scheduled (due_at, id) VALUES (?, ?)
