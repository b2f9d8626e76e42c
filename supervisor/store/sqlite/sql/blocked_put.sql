INSERT INTO blocked (id, queue, task, version, waits) VALUES (?, ?, ?, ?, ?)
