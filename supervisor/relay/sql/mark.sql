UPDATE jobsup_outbox SET error = ?2 WHERE id = ?1
