SELECT queue, minute, span, enqueued, started, completed, failed, crashed, retried, dead, cancelled, interrupted, run, wait
FROM stat WHERE (:queue IS NULL OR queue = :queue) AND minute >= :since AND minute < :until ORDER BY queue, minute
