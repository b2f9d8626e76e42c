"""Progress on a terminal, for what takes long; nothing for what does not, or where stderr is none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from supervisor.observe.sanitise import sanitise
from supervisor.unix.clock import boot_ms

Tell = Callable[[int], object]
Say = Callable[[str], object]
T = TypeVar("T")

PATIENCE_MS = 500
"""What ends within this time shows nothing: a line that comes and goes at once is only a flicker."""


@contextmanager
def counting(wording: str) -> Iterator[Tell]:
    """Show a number as it grows: `wording` has a {} for it. It is gone when the block is left."""
    with saying() as say:
        yield silent if say is None else lambda number: say(wording.format(f"{number:,}"))


@contextmanager
def saying() -> Iterator[Say | None]:
    """What shows a sentence in the place of the one before it; None where there is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    line = _Line()
    try:
        yield line.say
    finally:
        line.clear()


class _Line:
    """The line on the terminal, once it is worth one."""

    def __init__(self) -> None:
        self._begun_ms = boot_ms()
        self._bar: Any = None
        self._task: Any = None

    def say(self, sentence: str) -> None:
        """How it stands by now."""
        if self._bar is None:
            if boot_ms() - self._begun_ms < PATIENCE_MS:
                return
            self._begin()
        self._bar.update(self._task, description=sanitise(sentence))

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, highlight=False, markup=False)
        text = TextColumn("{task.description}", markup=False)
        self._bar = Progress(SpinnerColumn(), text, TimeElapsedColumn(), console=console, transient=True)
        self._task = self._bar.add_task("", total=None)
        self._bar.start()

    def clear(self) -> None:
        """Take the line away."""
        if self._bar is not None:
            self._bar.stop()


def watched(make: Callable[[Tell], Iterable[T]], wording: str, *, as_json: bool) -> Iterator[T]:
    """The rows of a search that tells how far it is, shown until it ends: a table is printed behind that.

    Rows that are printed on the same terminal as they come are progress enough.
    """
    if as_json and sys.stdout.isatty():
        yield from make(silent)
        return
    with counting(wording) as told:
        yield from make(told)


def silent(_number: int) -> None:
    """Progress that nobody watches."""
