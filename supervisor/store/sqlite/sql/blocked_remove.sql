DELETE FROM blocked WHERE id = ?
