UPDATE blocked SET waits = waits - ?1 WHERE id IN (SELECT value FROM json_each(?2))
