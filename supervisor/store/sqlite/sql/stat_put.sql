INSERT INTO stat (queue, minute, span, enqueued, started, completed, failed, crashed, retried, dead, cancelled, interrupted,
  run, wait)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (queue, minute) DO UPDATE SET span = excluded.span, enqueued = excluded.enqueued,
  started = excluded.started, completed = excluded.completed, failed = excluded.failed, crashed = excluded.crashed,
  retried = excluded.retried, dead = excluded.dead, cancelled = excluded.cancelled,
  interrupted = excluded.interrupted, run = excluded.run, wait = excluded.wait
