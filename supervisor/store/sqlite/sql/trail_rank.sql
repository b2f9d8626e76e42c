UPDATE trail SET band = ?2, pos = ?3, due_at = NULL WHERE id = ?1
