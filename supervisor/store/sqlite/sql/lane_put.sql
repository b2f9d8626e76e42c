UPDATE lane SET jobs = ?2, vtime = ?3, paused = ?4, held = ?5, doom = ?6, a = ?7, b = ?8, c = ?9, gate = ?10 WHERE id = ?1
