SELECT id, queue, key, jobs, vtime, paused, held, doom, a, b, c, gate FROM lane WHERE id = ?
