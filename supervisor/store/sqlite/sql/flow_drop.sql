DELETE FROM flow WHERE root = ?
