SELECT DISTINCT queue, task, version FROM blocked WHERE waits = 0
