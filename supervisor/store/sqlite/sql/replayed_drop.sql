DELETE FROM replayed WHERE replay = ?1 AND released = ?2 AND id IN (SELECT value FROM json_each(?3))
