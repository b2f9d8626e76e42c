"""What the README and docs tell people to measure with runs, in its smallest form."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALL = {
    "drain": ["--jobs", "300", "--huey-jobs", "20", "--rounds", "1", "--json"],
    "pull": ["--fetches", "20", "--seconds", "0.5", "--jobs", "20", "--json"],
    "batches": ["--jobs", "300", "--size", "20", "--rounds", "1", "--json"],
    "layout_probe": ["--short", "500", "--long", "2000", "--finished", "500"],
}


@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs(name: str) -> None:
    words = [sys.executable, "-m", f"benchmarks.{name}", *SMALL[name]]
    with tempfile.TemporaryDirectory(prefix="b") as folder:  # sockets are in it, and the kernel takes short paths only
        ran = subprocess.run([*words, "--dir", folder], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
    if "--json" in words:
        assert json.loads(ran.stdout)["figures"]
