SELECT id FROM lane WHERE gate = ?
