SELECT id, failures, crashes, interruptions, solo, cancel_at, last_error, ready_at FROM trail WHERE id IN (SELECT value FROM json_each(?))
