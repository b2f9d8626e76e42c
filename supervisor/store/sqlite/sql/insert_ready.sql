INSERT INTO ready (lane, band, pos, id, mark) VALUES (?, ?, ?, ?, ?)
