SELECT at FROM signal WHERE id = ?
