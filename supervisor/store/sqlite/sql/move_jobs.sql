UPDATE job SET lane = ?2 WHERE id = ?1
