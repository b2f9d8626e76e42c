INSERT INTO blocked (id, queue, task, version) VALUES (?, ?, ?, ?)
