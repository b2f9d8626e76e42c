DELETE FROM ready WHERE lane = ? AND (band, pos, id) <= (?, ?, ?)
