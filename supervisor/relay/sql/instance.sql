SELECT CASE WHEN length(CAST(instance AS BLOB)) <= 200 THEN instance END, owner, length(CAST(instance AS BLOB))
FROM jobsup_outbox_instance WHERE only = 1
