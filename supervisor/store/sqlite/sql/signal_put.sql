INSERT INTO signal (id) VALUES (?)
