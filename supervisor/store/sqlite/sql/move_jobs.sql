UPDATE job SET queue = ?2, lane = ?3 WHERE id = ?1
