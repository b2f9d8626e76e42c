DELETE FROM idempotent WHERE id IN (SELECT value FROM json_each(?))
