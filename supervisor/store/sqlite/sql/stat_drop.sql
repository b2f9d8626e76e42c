DELETE FROM stat WHERE queue = ?1 AND minute >= ?2 AND minute < ?2 + 60
