INSERT INTO lane (queue, key) VALUES (?, ?) RETURNING id, queue, key, jobs, vtime, paused, held, doom, a, b, c, gate
