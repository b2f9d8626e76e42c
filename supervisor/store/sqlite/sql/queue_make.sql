INSERT INTO queue (name, ranking) VALUES (?, ?) RETURNING id
