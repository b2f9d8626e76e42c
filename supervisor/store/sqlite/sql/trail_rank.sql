UPDATE trail SET band = ?2, pos = ?3, due_at = NULL, ready_at = due_at WHERE id = ?1
