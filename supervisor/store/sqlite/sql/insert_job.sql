INSERT INTO job (id, queue, lane, band, pos, priority, enqueued_at, due_at, options, payload)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
