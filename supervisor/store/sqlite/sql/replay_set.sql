UPDATE replay SET state = ?2, reason = ?3, after_id = ?4, next_us = ?5, matched = ?6, released = ?7, completed = ?8,
  failed = ?9, gone = ?10, ended_at = ?11
WHERE id = ?1
