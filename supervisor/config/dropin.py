"""Write a drop-in that adds a queue. The user's own file is never touched: rewriting it would lose its comments."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from supervisor.config.load import read
from supervisor.config.lookup import drop_in_folder, main_file
from supervisor.config.parse import Document, parse
from supervisor.config.problem import Report, quoted, shown
from supervisor.errors import ConfigError

HEADER = "# Written by `jobsctl queues add`. It may be edited or deleted; `jobsctl reload` applies it.\n\n"


def add_queue(
    config_path: str | os.PathLike[str] | None,
    name: str,
    table: Mapping[str, Any],
    environ: Mapping[str, str] = os.environ,
) -> Path:
    """Add the queue as queues.d/50-NAME.toml beside the main file; whole or not at all, even if power fails.

    Raises:
        ConfigError: the queue exists, the configuration would not load with it, or the file cannot be written.
    """
    import tomli_w

    main = main_file(config_path, environ)
    path = os.path.join(drop_in_folder(main), f"50-{name}.toml")
    try:
        content = (HEADER + tomli_w.dumps({"queues": {name: dict(table)}})).encode()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"queue {shown(name)} cannot be written as TOML: {error}") from error
    _must_load(main, path, content, name, environ)
    try:
        _write(main, path, content)
    except FileExistsError:
        raise ConfigError(f"{quoted(path)} exists already", hint="edit that file, or choose another name") from None
    except OSError as error:
        raise ConfigError(f"{quoted(path)} cannot be written: {error.strerror}") from error
    return Path(path)


def _must_load(main: str, path: str, content: bytes, name: str, environ: Mapping[str, str]) -> None:
    """Load everything as if the drop-in were there."""
    before = read(main, environ=environ)
    if name in before.spec.queues:
        place, _ = before.written(("queues", name))
        raise ConfigError(f"queue {shown(name)} exists already, at {place}", hint="edit it there")
    report = Report()
    candidate: Document | None = parse(path, content, report)
    report.raise_problems()
    read(main, environ=environ, candidate=candidate)


def _write(main: str, path: str, content: bytes) -> None:
    """Write beside and link into place: a link never replaces what another process wrote meanwhile."""
    owner = os.stat(main)
    folder = os.path.dirname(path)
    _make_folder(folder, owner)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            _own_like(descriptor, owner, stat.S_IMODE(owner.st_mode) & 0o644)
            os.fsync(descriptor)
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
    _sync(folder)


def _make_folder(folder: str, owner: os.stat_result) -> None:
    """Make queues.d readable for whoever may read the main file, and writable for its owner only."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        readable = stat.S_IMODE(owner.st_mode) & 0o044
        _own_like(descriptor, owner, 0o700 | readable | readable >> 2)
    finally:
        os.close(descriptor)
    _sync(os.path.dirname(folder))


def _own_like(descriptor: int, owner: os.stat_result, mode: int) -> None:
    """Give a file the owner of the main file, where we may, so that the service can read it."""
    try:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except PermissionError:
        pass
    os.fchmod(descriptor, mode)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
