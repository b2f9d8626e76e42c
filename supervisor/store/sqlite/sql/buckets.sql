SELECT name, key, state, until FROM bucket
