SELECT count(*), coalesce(sum(paused), 0) FROM schedule
