DELETE FROM relayed WHERE instance = ?1 AND id IN (SELECT value FROM json_each(?2))
