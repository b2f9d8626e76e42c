SELECT enqueued, started, completed, failed, crashed, retried, dead, cancelled, interrupted, run, wait
FROM stat WHERE queue = ? AND minute = ?
