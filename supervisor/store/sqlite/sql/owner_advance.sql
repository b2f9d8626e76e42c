UPDATE owner SET read_sequence = ?2, read_offset = ?3 WHERE id = ?1
