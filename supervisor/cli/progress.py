"""Progress on a terminal, for what may take long; nothing where stderr is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tell = Callable[[int], object]


@contextmanager
def counting(wording: str) -> Iterator[Tell]:
    """Show a number as it grows: `wording` has a {} for it. It is gone when the block is left."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    text = TextColumn("{task.description}", markup=False)
    with Progress(SpinnerColumn(), text, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(wording.format(0), total=None)
        yield lambda number: bar.update(task, description=wording.format(f"{number:,}"))


def _silent(_number: int) -> None:
    """Progress that nobody watches."""
