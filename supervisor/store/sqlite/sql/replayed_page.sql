SELECT id FROM replayed WHERE replay = ?1 AND released = ?2 AND id > ?3 ORDER BY id LIMIT ?4
