INSERT INTO trail (id, failures, crashes, interruptions, band, pos, cancel_at)
SELECT id, 0, 0, 0, band, pos, ?2 FROM job WHERE id = ?1
ON CONFLICT (id) DO UPDATE SET cancel_at = excluded.cancel_at
