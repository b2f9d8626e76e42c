"""Configuration files for tests, and what loading them says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from supervisor.config.load import load
from supervisor.config.spec import Spec
from supervisor.errors import ConfigError

QUEUE = '[queues.q]\nhandler = "m:f"\n'


def write(folder: Path, text: str | bytes, name: str = "queues.toml") -> Path:
    """A file with this text, and the folders on the way, writable for nobody else."""
    path = folder / name
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    return path


def load_text(
    folder: Path, text: str | bytes, settings: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Spec:
    """The spec of a file with this text."""
    return load(write(folder, text), settings, environ or {})


def problems(path: Path, settings: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> list[str]:
    """All problems of a file, without the folder in front."""
    with pytest.raises(ConfigError) as raised:
        load(path, settings, environ or {})
    return [problem.replace(f"{path.parent}/", "") for problem in raised.value.problems]


def problems_of(
    folder: Path, text: str | bytes, settings: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> list[str]:
    """All problems of a file with this text."""
    return problems(write(folder, text), settings, environ)
