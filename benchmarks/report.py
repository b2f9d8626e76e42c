"""What a benchmark found: figures with their units and, where there is one, the aim that they are held to."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from supervisor.store.driver import sqlite_version
from supervisor.store.open import file_system_of
from supervisor.version import VERSION


class Figure(NamedTuple):
    """One number. `note` says what it is compared with; `met` whether it keeps the `aim`, if it has one."""

    name: str
    value: float
    unit: str
    note: str = ""
    aim: str | None = None
    met: bool | None = None


class Report:
    """The figures of one run, under one heading."""

    def __init__(self, benchmark: str, heading: str) -> None:
        self.benchmark = benchmark
        self.heading = heading
        self.figures: list[Figure] = []
        self.samples: dict[str, Any] = {}

    def add(
        self, name: str, value: float, unit: str, note: str = "", *, aim: str | None = None, met: bool | None = None
    ) -> None:
        """Add a figure."""
        self.figures.append(Figure(name, value, unit, note, aim, met))

    def print(self, folder: Path, *, as_json: bool) -> None:
        """Print the report: one JSON object, or a table for people."""
        if as_json:
            figures = [figure._asdict() for figure in self.figures]
            found = {"benchmark": self.benchmark, "heading": self.heading, "machine": machine(folder)}
            print(json.dumps(found | {"figures": figures, "samples": self.samples}))
            return
        print(self.heading)
        print("  " + ", ".join(f"{name} {value}" for name, value in machine(folder).items()))
        width = max(len(figure.name) for figure in self.figures)
        for figure in self.figures:
            line = f"  {figure.name:<{width}}  {shown(figure.value):>9} {figure.unit:<8} {figure.note}"
            print(line.rstrip())
            if figure.aim is not None:
                print(f"  {'':<{width}}  {'':>9} {'':<8} aim: {figure.aim}: {'met' if figure.met else 'MISSED'}")


def machine(folder: Path) -> dict[str, Any]:
    """Where this was measured."""
    return {
        "jobsup": VERSION,
        "python": platform.python_version(),
        "sqlite": ".".join(map(str, sqlite_version)),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "file system": file_system_of(os.stat(folder).st_dev),
    }


def shown(value: float) -> str:
    """A number with as many digits as mean something."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def parser(doc: str) -> argparse.ArgumentParser:
    """The arguments that every benchmark has."""
    made = argparse.ArgumentParser(description=doc.strip().split("\n", maxsplit=1)[0])
    made.add_argument("--json", action="store_true", help="print one JSON object")
    made.add_argument(
        "--dir", default="/var/tmp", help="where the databases go: the disk that is measured (%(default)s)"
    )
    return made


def workplace(parent: str) -> tempfile.TemporaryDirectory[str]:
    """A folder on the disk that is measured, deleted afterwards."""
    return tempfile.TemporaryDirectory(prefix="jobsup-bench-", dir=parent)
