UPDATE job SET payload = coalesce(?2, payload), priority = ?3, options = ?4, due_at = coalesce(?5, due_at) WHERE id = ?1
