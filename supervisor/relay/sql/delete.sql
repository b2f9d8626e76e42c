DELETE FROM jobsup_outbox WHERE id = ?1
