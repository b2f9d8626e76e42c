SELECT id, queue, paused FROM lane WHERE key = ''
