"""Facts about this host that a spec depends on, for `jobsupd --check`: what would fail later, said now.

Nothing is imported, started or written. What another host, another user or a later moment may answer
differently is advice; what cannot work anywhere near here is a problem.
"""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from supervisor.config.command import parse_command
from supervisor.config.findable import defines, source_of
from supervisor.config.load import Loaded, read
from supervisor.config.problem import KeyPath, Report, printable, quoted, shown
from supervisor.config.sandbox import needs
from supervisor.config.spec import Queue, Spec
from supervisor.errors import ConfigError

Said = tuple[KeyPath, str]
VOLATILE = ("/run/", "/dev/shm/")  # noqa: S108 - looked for, not written to


class Checked(NamedTuple):
    """What `jobsupd --check` prints; it exits 0 if there are no problems, else 2. `spec` is None if it did not load."""

    spec: Spec | None
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


def check(
    path: str | os.PathLike[str] | None, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Checked:
    """Load the configuration and look at the host; never raises for what is wrong with either."""
    try:
        loaded = read(path, overrides, environ)
    except ConfigError as error:
        return Checked(None, error.problems)
    report = host_facts(loaded, environ)
    return Checked(loaded.spec, report.problems, loaded.spec.warnings, report.warnings)


def host_facts(loaded: Loaded, environ: Mapping[str, str]) -> Report:
    """What the host says to a spec: problems, and advice as the report's warnings."""
    report = Report()
    for part in (loaded, *loaded.parts.values()):
        _host_facts(part, environ, report)
    return report


def _host_facts(loaded: Loaded, environ: Mapping[str, str], report: Report) -> None:
    spec = loaded.alone
    for key, text in (*_folders(spec), *(() if spec.scope else _database(spec)), *_access(spec), *_outboxes(spec)):
        report.warn(*loaded.written(key), text)
    if spec.alerts.command is not None and (why := unusable_program(spec.alerts.command, spec.alerts.env, environ)):
        report.problem(*loaded.written(("alerts", "command")), why)
    tables = [(("queues", name), queue) for name, queue in spec.queues.items()]
    for prefix, queue in (*tables, *((("pools", name), pool) for name, pool in spec.pools.items())):
        for key, text in (*_code(queue), *_program(queue, environ), *_cwd(queue), *_user(queue)):
            report.problem(*loaded.written((*prefix, *key)), text)
        for key, text in (*_names(queue), *_fields_as_options(queue), *_files(queue), *_needs(queue)):
            report.warn(*loaded.written((*prefix, *key)), text)


def _folders(spec: Spec) -> Iterator[Said]:
    for folder in spec.daemon.python_path:
        if not os.path.isdir(folder):
            yield (
                ("daemon", "python_path"),
                f"{quoted(folder)} is no directory on this host; make it or correct the path",
            )


def _outboxes(spec: Spec) -> Iterator[Said]:
    for number, outbox in enumerate(spec.outbox.values(), 1):
        if not os.path.exists(outbox.database):
            text = f"{quoted(outbox.database)} does not exist on this host; until it does, outbox {outbox.name} waits"
            yield ("outbox", str(number), "database"), text


def _database(spec: Spec) -> Iterator[Said]:
    if spec.daemon.database.startswith(VOLATILE):
        yield ("daemon", "database"), "is on a file system that a reboot empties; choose another folder"


def _access(spec: Spec) -> Iterator[Said]:
    """Names in [access] that nobody has: they admit nobody."""
    lists = {
        "enqueue": spec.access.enqueue,
        "consume": spec.access.consume,
        "status": spec.access.status,
        "admin": spec.access.admin,
    }
    for key, entries in lists.items():
        for entry in entries:
            sort, _, name = entry.partition(":")
            if name and not (_user_exists(name) if sort == "user" else _group_exists(name)):
                yield ("access", key), f"there is no {sort} {shown(name)} on this host; create it or name another"


def _user_exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def _code(queue: Queue) -> Iterator[Said]:
    for key, reference in _references(queue):
        module = reference.partition(":")[0]
        if source_of(module, queue.python_path) is None:
            text = f"there is no module {module} in python_path or site-packages; add its folder to daemon.python_path"
            yield (key,), text


def _names(queue: Queue) -> Iterator[Said]:
    for key, reference in _references(queue):
        module, _, name = reference.partition(":")
        source = source_of(module, queue.python_path)
        if name and source and not defines(source, name):
            yield (key,), f"{printable(source)} seems not to define {name}; name a function of that module"


def _references(queue: Queue) -> Iterator[tuple[str, str]]:
    written = (("handler", queue.handler), ("after_fork", queue.after_fork), ("backoff", queue.backoff.function))
    for key, reference in written:
        if reference:
            yield key, reference


def _program(queue: Queue, environ: Mapping[str, str]) -> Iterator[Said]:
    if queue.command is not None and (why := unusable_program(queue.command, queue.env, environ)):
        yield ("command",), why


def _cwd(queue: Queue) -> Iterator[Said]:
    if queue.cwd is not None and not os.path.isdir(queue.cwd):
        yield ("cwd",), f"{quoted(queue.cwd)} is no directory on this host; make it or correct the path"


def unusable_program(command: tuple[str, ...], env: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    """Why the program of a command cannot be run, and what to do; None if it can."""
    program = str(parse_command(command)[0][0])
    search = env.get("PATH") or environ.get("PATH") or os.defpath
    if shutil.which(program, path=search):
        return None
    if os.path.exists(program):
        return f"{quoted(program)} is not executable; run chmod +x on it"
    if "/" in program:
        return f"{quoted(program)} does not exist; correct the path"
    return f"{quoted(program)} is in no directory of PATH ({printable(search)}); install it or give its path"


def _user(queue: Queue) -> Iterator[Said]:
    if queue.user is not None and not _user_exists(queue.user):
        yield ("user",), f"there is no user {shown(queue.user)} on this host; create it or name another"


def _fields_as_options(queue: Queue) -> Iterator[Said]:
    """Fields that no `--` precedes: a value that begins with - will be refused there."""
    arguments = queue.command or ()
    guarded = arguments[: arguments.index("--")] if "--" in arguments else arguments
    fields = [argument for argument in guarded if argument.startswith("{") and not argument.startswith("{{")]
    if fields:
        text = (
            f'{", ".join(fields)}: values that begin with - are refused here; put "--" before, if the program knows it'
        )
        yield ("command",), text


def _files(queue: Queue) -> Iterator[Said]:
    for name, value in queue.env.items():
        if name.endswith("_FILE") and not os.path.exists(value):
            yield ("env", name), f"names {quoted(value)}, which does not exist on this host; make the file"


def _needs(queue: Queue) -> Iterator[Said]:
    for need in needs(queue):
        yield (need.key,), need.sentence
