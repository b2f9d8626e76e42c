"""TOML to a frozen typed spec: read, checked, compared; all problems at once, with file, line and key."""
