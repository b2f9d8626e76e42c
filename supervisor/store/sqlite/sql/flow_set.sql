UPDATE flow SET state = ?2, open = ?3, steps = ?4, unfinished = ?5, dead = ?6, cancelled = ?7, skipped = ?8, told = ?9,
finished_at = ?10 WHERE id = ?1
