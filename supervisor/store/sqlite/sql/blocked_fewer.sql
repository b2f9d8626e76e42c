UPDATE blocked SET waits = waits - ?2 WHERE id = ?1
