SELECT DISTINCT queue, task, version FROM blocked
