"""Load the configuration: find, read, lay over each other, build, compare; all problems at once.

Nothing of the application is imported and nothing is written. A reload runs this in a process of its own with
limits; what it may cost is bounded here as well, by the sizes and depths that `source`, `scan` and `layers` refuse.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from supervisor.config import agree
from supervisor.config.build import Fields, Scope, construct, inherit, read_section, unknown_section
from supervisor.config.layers import LAID, Layers, gather, queue_table
from supervisor.config.locate import default_paths
from supervisor.config.lookup import main_file
from supervisor.config.parse import Document
from supervisor.config.problem import KeyPath, Place, Report
from supervisor.config.queue_keys import DEFAULTS, LIMIT, NAMED, POOL, QUEUE, TOP
from supervisor.config.schedules import read_schedules
from supervisor.config.source import believe_folder
from supervisor.config.spec import Access, Alerts, Daemon, Intake, Limit, Log, Queue, Scale, Spec, Stats, is_pattern
from supervisor.config.special import PATTERN, QUEUE_NAME

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
    for name in [name for name in layers.main.data if name not in (*TOP, *NAMED, *LAID)]:
        scope.problem((name,), "" if report.full else unknown_section(name))
    daemon = _daemon(sections["daemon"], layers, scope)
    queues = _queues(layers, sections["defaults"], daemon, scope)
    limits, pools = _limits(scope), _pools(sections["defaults"], daemon, scope)
    known = {*limits, *(layers.main.data["limits"] if isinstance(layers.main.data.get("limits"), dict) else ())}
    for key, text in agree.of_tables(queues, known, pools, layers.queues):
        report.problem(*_written(key, layers), text)
    for key, text in agree.of_targets(queues, {name: queue_table(layers, name) for name in layers.queues}):
        report.problem(*_written(key, layers), text)
    if not layers.queues:
        report.warn(Place(layers.main.path), ("queues",), "there is no queue; write a [queues.NAME]")
    return Spec(
        files=layers.files,
        daemon=daemon,
        intake=Intake(**sections["intake"]),
        log=Log(**sections["log"]),
        access=Access(**sections["access"]),
        alerts=_alerts(sections["alerts"], queues, layers, scope),
        limits=limits,
        stats=Stats(**sections["stats"]),
        queues=queues,
        pools=pools,
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


def _alerts(fields: Fields, queues: Mapping[str, Queue], layers: Layers, scope: Scope) -> Alerts:
    written = layers.main.data.get("alerts")
    alerts = Alerts(**fields)
    if isinstance(written, dict):
        for key, text in agree.of_alerts(written, alerts, {*queues, *layers.queues}):
            scope.problem(("alerts", *key), text)
    return alerts


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
    return queues


def _tables(section: str, scope: Scope) -> dict[str, Any]:
    """The named tables of a section, by name; names that cannot be are noted and left out."""
    tables = scope.document.data.get(section, {})
    if not isinstance(tables, dict):
        scope.problem((section,), f"is no table; write [{section}.NAME]")
        return {}
    found = {}
    for name, table in tables.items():
        try:
            found[QUEUE_NAME.read(name, "")] = table
        except ValueError as error:
            scope.problem((section, name), str(error))
    return found


def _limits(scope: Scope) -> dict[str, Limit]:
    found = {}
    for name, table in _tables("limits", scope).items():
        before = scope.report.count
        fields = read_section(LIMIT, table, ("limits", name), scope)
        if scope.report.count == before:
            found[name] = limit = construct(LIMIT, {"name": name, **fields})
            for key, text in agree.of_limit(limit):
                scope.problem(("limits", name, *key), text)
    return found


def _pools(defaults: Fields, daemon: Daemon, scope: Scope) -> dict[str, Queue]:
    fields_of_pools = {key.field for key in POOL.keys.values()}
    found = {}
    for name, table in _tables("pools", scope).items():
        before = scope.report.count
        fields = read_section(POOL, table, ("pools", name), scope)
        for key, text in agree.of_pool(table) if isinstance(table, dict) else ():
            scope.problem(("pools", name, *key), text)
        if scope.report.count > before:
            continue
        inherited = {field: value for field, value in defaults.items() if field in fields_of_pools}
        if "handler" not in fields:
            inherited = {field: value for field, value in inherited.items() if field not in agree.HANDLER_ONLY}
        own = {"name": name, "python_path": daemon.python_path, "strict": isinstance(table.get("sources"), list)}
        found[name] = pool = construct(POOL, {**own, **inherit(inherited, fields)})
        for key, text in agree.of_demand(pool):
            scope.problem(("pools", name, *key), text)
    return found


def _queue(name: str, layers: Layers, defaults: Fields, daemon: Daemon, scope: Scope) -> Queue | None:
    """The queue, or None if its name or a key of its own is wrong: then nothing is known about the rest."""
    prefix = ("queues", name)
    before = scope.report.count
    try:
        (PATTERN if is_pattern(name) else QUEUE_NAME).read(name, "")
    except ValueError as error:
        scope.problem(prefix, str(error))
    written = queue_table(layers, name)
    fields = read_section(QUEUE, written, prefix, scope)
    drawn = {source for pool in _sources(layers) for source in pool}
    for key, text in agree.of_written(written, drawn=name in drawn) if isinstance(written, dict) else ():
        scope.report.problem(*_written((*prefix, *key), layers), text)
    if scope.report.count > before:
        return None
    if "handler" not in fields:
        defaults = {field: value for field, value in defaults.items() if field not in agree.HANDLER_ONLY}
        defaults = agree.without_function(defaults)
    meant = inherit(defaults, fields)
    queue: Queue = construct(QUEUE, {"name": name, "python_path": daemon.python_path, **meant})
    if isinstance(queue.workers, int):
        queue = msgspec.structs.replace(queue, scale=Scale())  # [defaults] may speak of it for other queues
    for key, text in (*agree.of_inherited(queue), *agree.of_scale(written, queue.workers)):
        scope.report.problem(*_written((*prefix, *key), layers), text)
    return queue


def _sources(layers: Layers) -> Iterator[Iterable[str]]:
    """The sources of every pool, as written; what is wrong with them is said elsewhere."""
    pools = layers.main.data.get("pools", {})
    for pool in pools.values() if isinstance(pools, dict) else ():
        sources = pool.get("sources") if isinstance(pool, dict) else None
        if isinstance(sources, (dict, list)):
            yield (name for name in sources if isinstance(name, str))


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
