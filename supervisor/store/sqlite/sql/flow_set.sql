UPDATE flow SET state = ?2, open = ?3, steps = ?4, unfinished = ?5, dead = ?6, cancelled = ?7, skipped = ?8, told = ?9,
bytes = ?10, finished_at = ?11 WHERE id = ?1
