"""Benchmarks. Each is a program: `python -m benchmarks.drain` (latency, cli, idle), readable or with `--json`.

Compare figures of one run only: what else the machine does changes all of them. That is why each prints a ratio to
something measured beside it: the raw limit of the disk and SQLite, an fdatasync, an empty Python process.
"""
