SELECT CASE WHEN octet_length(instance) <= 200 THEN instance END, owner, octet_length(instance)
FROM jobsup_outbox_instance WHERE only = 1
