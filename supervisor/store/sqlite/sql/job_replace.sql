UPDATE job SET payload = ?2, priority = ?3, options = ?4, due_at = ?5, band = ?6, pos = ?7 WHERE id = ?1
