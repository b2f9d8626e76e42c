DELETE FROM stat WHERE (queue, minute) IN (SELECT queue, minute FROM stat WHERE span = ?1 AND minute < ?2 LIMIT ?3)
