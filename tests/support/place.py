"""A mount namespace of a test's own that lives as long as the block: what is mounted there nobody else sees."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.small_disk import namespace


class Place:
    """`script` is a shell script that mounts; `prefix`, before a command, lets it see that."""

    def __init__(self, script: str, **environ: object) -> None:
        self._script = script
        self._environ = {**os.environ, **{name: str(value) for name, value in environ.items()}}
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        script = f"set -e\n{self._script}\necho mounted\nexec cat"
        self._holder = subprocess.Popen(
            [*namespace(), "sh", "-c", script], env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"mounted\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holder is not None
        self._holder.communicate()

    @property
    def prefix(self) -> tuple[str, ...]:
        """What enters it; the process stays the same."""
        assert self._holder is not None
        user = ("--user", "--preserve-credentials") if "-Urm" in namespace() else ()
        return ("nsenter", f"--target={self._holder.pid}", "--mount", *user, "--")

    def see(self, path: Path) -> Path:
        """The path by which somebody outside reaches what this path names inside."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root{path}")


def small_disk(folder: Path, size: str) -> Place:
    """A place where the folder is a disk of this size."""
    folder.mkdir(parents=True, exist_ok=True)
    return Place('mount -t tmpfs -o "size=$SIZE" tmpfs "$FOLDER"', FOLDER=folder, SIZE=size)


def read_only(folder: Path) -> Place:
    """A place where the folder can only be read."""
    return Place('mount --bind "$FOLDER" "$FOLDER"; mount -o remount,bind,ro "$FOLDER"', FOLDER=folder)


def mounted(source: Path, target: Path) -> Place:
    """A place where a file or folder has a second name."""
    return Place('mount --bind "$SOURCE" "$TARGET"', SOURCE=source, TARGET=target)
