UPDATE jobsup_outbox_instance SET owner = ?1 WHERE owner IS NULL
