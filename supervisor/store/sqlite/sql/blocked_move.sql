UPDATE blocked SET queue = ?2 WHERE id = ?1
