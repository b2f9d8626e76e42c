INSERT INTO step (id, flow, kind, name, rules) VALUES (?, ?, ?, ?, ?)
