"""Where what is written in tests lies: beside nothing of the user's, on a path that is short enough for a socket."""

from __future__ import annotations

from pathlib import Path


def placed(folder: Path) -> tuple[str, ...]:
    """What put over a configuration has all that it writes in one folder."""
    return f'daemon.database="{folder}/jobs.db"', f'daemon.run_dir="{folder}"', 'log.target="stderr"'
