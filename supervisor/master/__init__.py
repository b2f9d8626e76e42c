"""The master: the root of the processes; forks, watches, signals, reaps, tells."""
