"""The database: a protocol of domain verbs, the way to open it, and what reads it."""
