SELECT id, failures, crashes, interruptions, solo, cancel_at, last_error FROM trail WHERE id IN (SELECT value FROM json_each(?))
