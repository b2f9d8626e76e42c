"""What `jobsctl doctor` looks at: one function per mishap, by area; each yields findings, none changes anything."""
