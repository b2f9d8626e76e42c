SELECT count(*) FROM step WHERE flow = ? AND kind = 2 AND name IS NOT NULL
