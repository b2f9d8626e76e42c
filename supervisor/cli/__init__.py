"""The programs: jobsupd, the daemon, and jobsctl, which operates it."""
