DELETE FROM letter WHERE id IN (SELECT value FROM json_each(?)) RETURNING queue, fingerprint
