INSERT INTO trail (id, failures, crashes, interruptions, band, pos) VALUES (?1, 0, 0, 0, ?2, ?3)
ON CONFLICT (id) DO UPDATE SET band = excluded.band, pos = excluded.pos
