INSERT INTO lane (id, queue) VALUES (?1, ?1) RETURNING id, queue, key, jobs, vtime, paused, held, doom, a, b, c, gate
