SELECT count(*) FROM checkpoint WHERE id = ? AND name <> ''
