"""The store on SQLite: schema, verbs, statements."""
