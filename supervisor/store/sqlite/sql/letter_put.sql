INSERT INTO letter (id, queue, fingerprint, died_at) VALUES (?, ?, ?, ?)
