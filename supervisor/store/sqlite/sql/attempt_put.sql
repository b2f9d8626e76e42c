INSERT INTO attempt (id, seq, attempt, at, kind, message, detail)
SELECT ?1, coalesce(max(seq), 0) + 1, ?2, ?3, ?4, ?5, ?6 FROM attempt WHERE id = ?1
