"""What the kernel offers, each in one file: clocks, locks, slots, processes, signals, readiness."""
