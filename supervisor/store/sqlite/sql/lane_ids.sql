SELECT id FROM ready WHERE lane = ? ORDER BY band, pos, id LIMIT ?
