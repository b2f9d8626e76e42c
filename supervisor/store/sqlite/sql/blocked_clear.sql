DELETE FROM blocked WHERE id IN (SELECT CAST(key AS INTEGER) FROM json_each(?))
