UPDATE uniq SET gone = ?2 WHERE id = ?1
