INSERT INTO outcome (id, state, attempt, token, started_at, finished_at)
SELECT CAST(key AS INTEGER), 'completed', 1, ?1, value >> 20, (value >> 20) + (value & 0xFFFFF) FROM json_each(?2)
