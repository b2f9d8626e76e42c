INSERT OR IGNORE INTO jobsup_outbox_instance (only, instance) VALUES (1, lower(hex(randomblob(16))))
