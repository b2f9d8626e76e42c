INSERT INTO ready (lane, band, pos, id, mark) SELECT ?1, ?2, ?3 + ?4 * key, value, ?5 FROM json_each(?6)
