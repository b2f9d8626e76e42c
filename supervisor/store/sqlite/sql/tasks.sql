SELECT pool, name, version, oldest, aliases, schema FROM task ORDER BY pool, name
