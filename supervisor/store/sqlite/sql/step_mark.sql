UPDATE step SET skipped = ?2, tolerated = ?3 WHERE id = ?1
