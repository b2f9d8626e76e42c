SELECT name, value FROM meta WHERE name >= 'oldest:' AND name < 'oldest;'
