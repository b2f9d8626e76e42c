INSERT OR IGNORE INTO edge (parent, child, policy, done) VALUES (?, ?, ?, ?)
