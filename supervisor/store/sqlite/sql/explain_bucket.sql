SELECT state FROM bucket WHERE name = ? AND key = ?
