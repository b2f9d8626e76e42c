INSERT INTO uniq (hash, id, until, states) VALUES (?, ?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET id = excluded.id, until = excluded.until, states = excluded.states, gone = NULL
