INSERT INTO replayed (replay, released, id) VALUES (?, ?, ?)
