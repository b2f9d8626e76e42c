DELETE FROM request WHERE seq IN (SELECT seq FROM request ORDER BY seq LIMIT ?2) AND (at < ?1 OR at > ?3)
