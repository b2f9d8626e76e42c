SELECT enqueued, started, completed, failed, crashed, retried, dead, cancelled, interrupted, run, wait
FROM stat WHERE queue = ?1 AND minute >= ?2 AND minute < ?2 + 60
