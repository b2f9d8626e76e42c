SELECT max(id) FROM jobsup_outbox
