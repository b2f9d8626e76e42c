INSERT INTO ready (lane, band, pos, id, mark) SELECT ?1, ?2, value, CAST(key AS INTEGER), ?3 FROM json_each(?4)
