"""What the processes say about themselves: typed events, the log, and the one sanitiser."""
