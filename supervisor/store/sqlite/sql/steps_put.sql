INSERT INTO step (id, flow, kind, name) SELECT CAST(key AS INTEGER), ?1, ?2, value FROM json_each(?3)
