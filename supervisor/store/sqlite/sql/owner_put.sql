INSERT INTO owner (host, boot, epoch, slot, incarnation, pool, directory, pid, start_time)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (incarnation) DO UPDATE SET pid = excluded.pid, start_time = excluded.start_time
RETURNING id
