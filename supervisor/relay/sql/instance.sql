SELECT instance, owner FROM jobsup_outbox_instance WHERE only = 1
