DELETE FROM flow WHERE id = ?
