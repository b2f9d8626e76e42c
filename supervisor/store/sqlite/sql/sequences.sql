SELECT name, value FROM meta WHERE name IN ('next_id', 'next_token', 'next_sequence')
