"""Load the configuration: find, read, lay over each other, build, compare; all problems at once.

Nothing of the application is imported and nothing is written. A reload runs this in a process of its own with
limits; what it may cost is bounded here as well, by the sizes and depths that `source`, `scan` and `layers` refuse.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from supervisor.config import agree
from supervisor.config.build import Fields, Scope, construct, inherit, read_section, unknown_section
from supervisor.config.layers import NAMED, Layers, gather, queue_table
from supervisor.config.locate import default_paths
from supervisor.config.lookup import main_file
from supervisor.config.parse import Document
from supervisor.config.problem import KeyPath, Place, Report
from supervisor.config.queue_keys import DEFAULTS, QUEUE, QUEUE_NAME, TOP
from supervisor.config.schedules import read_schedules
from supervisor.config.source import believe_folder
from supervisor.config.spec import Access, Daemon, Intake, Log, Queue, Spec

QUEUES_MAX = 256


class Loaded(NamedTuple):
    """A spec, and where its keys were written."""

    spec: Spec
    layers: Layers

    def written(self, key: KeyPath) -> tuple[Place, KeyPath]:
        """Where a key was written, and under which name: that of [defaults] if the queue inherits it."""
        return _written(key, self.layers)


def find(path: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Path:
    """The main file: the one named, else $JOBSUP_CONFIG, else etc/queues.toml, else /etc/jobsup/queues.toml.

    Raises:
        ConfigError: none was named and none exists.
    """
    return Path(main_file(path, environ))


def load(
    path: str | os.PathLike[str] | None, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Spec:
    """The spec of a main file with its drop-ins and `overrides` ("section.key=value").

    Raises:
        ConfigError: `problems` has every problem as `FILE:LINE: KEY: what is wrong, and what would be right`.
    """
    return read(path, overrides, environ).spec


def read(
    path: str | os.PathLike[str] | None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    candidate: Document | None = None,
) -> Loaded:
    """As `load`, with the place of every key; `candidate` is a drop-in that is not written yet."""
    report = Report()
    layers = gather(main_file(path, environ), overrides, report, candidate)
    spec = _build(layers, environ, report) if layers else None
    report.raise_problems()
    assert spec is not None
    assert layers is not None
    return Loaded(spec, layers)


def _build(layers: Layers, environ: Mapping[str, str], report: Report) -> Spec:
    """The spec; of use only if no problem was noted."""
    scope = Scope(layers.main, environ, report)
    sections = {name: _section(name, scope) for name in TOP}
    for name in [name for name in layers.main.data if name not in TOP and name not in NAMED]:
        scope.problem((name,), "" if report.full else unknown_section(name))
    daemon = _daemon(sections["daemon"], layers, scope)
    queues = _queues(layers, sections["defaults"], daemon, scope)
    if not layers.queues:
        report.warn(Place(layers.main.path), ("queues",), "there is no queue; write a [queues.NAME]")
    return Spec(
        files=layers.files,
        daemon=daemon,
        intake=Intake(**sections["intake"]),
        log=Log(**sections["log"]),
        access=Access(**sections["access"]),
        queues=queues,
        schedules=read_schedules(layers, queues, scope),
        warnings=report.warnings,
    )


def _section(name: str, scope: Scope) -> Fields:
    return read_section(TOP[name], scope.document.data.get(name, {}), (name,), scope)


def _daemon(fields: Fields, layers: Layers, scope: Scope) -> Daemon:
    database, run_dir = default_paths(layers.main.path)
    daemon = Daemon(**{"database": database, "run_dir": run_dir, **fields})
    for key, text in agree.of_daemon(daemon):
        scope.problem(("daemon", *key), text)
    for folder in daemon.python_path:
        believe_folder(folder, scope.report, of=layers.main.path)
    return daemon


def _queues(layers: Layers, defaults: Fields, daemon: Daemon, scope: Scope) -> dict[str, Queue]:
    if len(layers.queues) > QUEUES_MAX:
        scope.problem(("queues",), f"are {len(layers.queues)}; write at most {QUEUES_MAX}")
        return {}
    for key, text in agree.of_inherited(construct(DEFAULTS, {"name": "defaults", **defaults})):
        scope.problem(("defaults", *key), text)
    queues = {}
    for name, document in layers.queues.items():
        if queue := _queue(name, layers, defaults, daemon, scope._replace(document=document)):
            queues[name] = queue
    for key, text in agree.of_all(queues.values()):
        scope.problem(key, text)
    return queues


def _queue(name: str, layers: Layers, defaults: Fields, daemon: Daemon, scope: Scope) -> Queue | None:
    """The queue, or None if its name or a key of its own is wrong: then nothing is known about the rest."""
    prefix = ("queues", name)
    before = scope.report.count
    try:
        QUEUE_NAME.read(name, "")
    except ValueError as error:
        scope.problem(prefix, str(error) + (", as patterns belong to a later version" if "*" in name else ""))
    written = queue_table(layers, name)
    fields = read_section(QUEUE, written, prefix, scope)
    for key, text in agree.of_written(written) if isinstance(written, dict) else ():
        scope.report.problem(*_written((*prefix, *key), layers), text)
    if scope.report.count > before:
        return None
    if "handler" not in fields:
        defaults = {field: value for field, value in defaults.items() if field not in agree.HANDLER_ONLY}
    queue: Queue = construct(QUEUE, {"name": name, "python_path": daemon.python_path, **inherit(defaults, fields)})
    for key, text in agree.of_inherited(queue):
        scope.report.problem(*_written((*prefix, *key), layers), text)
    return queue


def _written(key: KeyPath, layers: Layers) -> tuple[Place, KeyPath]:
    """Where a key was written: in its queue, else in [defaults], else the nearest table around it."""
    if key[0] == "schedules" and len(key) > 1:
        return layers.schedules.get(key[1], layers.main).place(key), key
    if key[0] != "queues" or len(key) < 2:
        return layers.main.place(key), key
    document = layers.queues.get(key[1], layers.main)
    inherited = ("defaults", *key[2:])
    if len(key) > 2 and key[:3] not in document.places and inherited[:2] in layers.main.places:
        return layers.main.place(inherited), inherited
    return document.place(key), key
