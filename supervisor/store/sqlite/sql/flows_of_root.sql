SELECT id FROM flow WHERE root = ? ORDER BY id
