DELETE FROM uniq WHERE hash IN (SELECT hash FROM uniq WHERE until IS NOT NULL AND until < ?1 ORDER BY until LIMIT ?2)
