"""Ways to run one job: a Python callable, a command."""
