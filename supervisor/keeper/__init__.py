"""The keeper: the one process that writes the database; serves clients, leases jobs, settles outcomes."""
