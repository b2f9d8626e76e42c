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
from supervisor.config.kinds import Kind
from supervisor.config.layers import LAID, Budget, Layers, gather, queue_table
from supervisor.config.locate import default_paths
from supervisor.config.lookup import main_file
from supervisor.config.membership import is_scope, membership, same_file
from supervisor.config.outboxes import read_outboxes
from supervisor.config.parse import Document
from supervisor.config.problem import KeyPath, Place, Report, quoted
from supervisor.config.queue_keys import ARRAYS, DEFAULTS, LIMIT, MAIN_ONLY, NAMED, POOL, QUEUE, SCOPE, TOP
from supervisor.config.schedules import read_schedules
from supervisor.config.scopes import alone as without
from supervisor.config.scopes import joined
from supervisor.config.source import believe_folder
from supervisor.config.spec import (
    Access,
    Alerts,
    Daemon,
    Intake,
    Limit,
    Log,
    Queue,
    Scale,
    ScopeTable,
    Spec,
    Stats,
    is_pattern,
)
from supervisor.config.special import PATTERN, QUEUE_NAME, SCOPE_NAME
from supervisor.errors import ConfigError

QUEUES_MAX = 256


class Home(NamedTuple):
    """What the file of a scope has from its main file: its name, and what of the daemon is the same for all."""

    name: str
    main: str
    daemon: Daemon
    access: Access


class Loaded(NamedTuple):
    """A spec, and where its keys were written; `parts` are the scopes of a main file, as their files say them."""

    spec: Spec
    layers: Layers
    parts: Mapping[str, Any] = {}

    @property
    def alone(self) -> Spec:
        """The spec without its scopes' tables."""
        return without(self.spec)

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
    """The spec of a main file with its drop-ins, its scopes, and `overrides` ("section.key=value").

    Of the file of a scope: its own spec, with what it has from its main file.

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
    report, budget = Report(), Budget()
    layers = gather(main_file(path, environ), overrides, report, candidate, budget)
    found = _load(layers, environ, report, budget) if layers else None
    report.raise_problems()
    assert found is not None
    return found


def load_main(
    path: str | os.PathLike[str] | None, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> Spec:
    """As `load`, of what a daemon can run: a main file.

    Raises:
        ConfigError: as `load`; or it is the file of a scope.
    """
    spec = load(path, overrides, environ)
    if spec.scope:
        raise ConfigError(
            f"{spec.files[0]} is the file of scope {spec.scope}, which the daemon of {spec.daemon.scope_of} runs",
            hint=f"jobsupd -c {spec.daemon.scope_of}",
        )
    return spec


def load_whole(
    path: str | os.PathLike[str] | None, overrides: Sequence[str] = (), environ: Mapping[str, str] = os.environ
) -> tuple[Spec, str]:
    """What the daemon of a file runs, and the scope that the file is of: as for a client that names the file.

    Raises:
        ConfigError: as `load`.
    """
    spec = load(path, overrides, environ)
    if not spec.scope:
        return spec, ""
    assert spec.daemon.scope_of is not None
    loaded = read(spec.daemon.scope_of, (), environ)
    parts = {name: part.spec for name, part in loaded.parts.items()}
    return joined(loaded.alone, {**parts, spec.scope: spec}), spec.scope


def _load(layers: Layers, environ: Mapping[str, str], report: Report, budget: Budget) -> Loaded | None:
    """What a file and those that belong to it say; of use only if no problem was noted."""
    if is_scope(layers.main):
        home = _home(layers.main, environ, report)
        return Loaded(_build(layers, environ, report, home), layers) if home else None
    spec = _build(layers, environ, report)
    parts = dict(_parts(spec, layers, environ, report, budget))
    whole = joined(spec, {name: part.spec for name, part in parts.items()})
    if parts:
        for key, text in agree.of_whole(whole, QUEUES_MAX):
            report.problem(*_written(key, layers), text)
    return Loaded(whole, layers, parts)


def _home(document: Document, environ: Mapping[str, str], report: Report) -> Home | None:
    """Where the file of a scope is at home, by its own word and that of the main file."""
    member = membership(document, report)
    if member is None:
        return None
    main = member.main
    scope = Scope(main, environ, report)
    if not _is_name(SCOPE_NAME, member.name, ("scopes", member.name), scope):
        return None
    daemon = _daemon(_section("daemon", scope), main, scope)
    return Home(member.name, main.path, daemon, Access(**_section("access", scope)))


def _parts(
    spec: Spec, layers: Layers, environ: Mapping[str, str], report: Report, budget: Budget
) -> Iterator[tuple[str, Loaded]]:
    """The scopes of a main file, each read from its own."""
    wrong = {name for name, _ in _misplaced(spec, layers, report)}
    for name, table in spec.scopes.items():
        if name in wrong:
            continue
        part = gather(table.config, (), report, budget=budget)
        if part is None:
            continue
        home = Home(name, layers.main.path, spec.daemon, spec.access)
        yield name, Loaded(_build(part, environ, report, home), part)


def _misplaced(spec: Spec, layers: Layers, report: Report) -> Iterator[tuple[str, str]]:
    """Scopes whose files cannot be what they are said to be, with what is noted about each."""
    places = {name: os.path.realpath(table.config) for name, table in spec.scopes.items()}
    for name, text in agree.of_scopes(os.path.realpath(layers.main.path), places, spec.daemon.run_dir):
        report.problem(*_written(("scopes", name, "config"), layers), text)
        yield name, text
    for name, table in spec.scopes.items():
        if not os.path.lexists(table.config):
            text = f"{quoted(table.config)} does not exist; make the file, or correct the path"
            report.problem(*_written(("scopes", name, "config"), layers), text)
            yield name, text


def _build(layers: Layers, environ: Mapping[str, str], report: Report, home: Home | None = None) -> Spec:
    """The spec of a main file without its scopes, or of a scope; of use only if no problem was noted."""
    scope = Scope(layers.main, environ, report)
    if home:
        for name, why in MAIN_ONLY.items():
            if name in layers.main.data:
                text = f"stands in the file of scope {home.name}, and {why}"
                scope.problem((name,), f"{text}; remove it, or move it to {quoted(home.main)}")
    sections = {name: _section(name, scope) for name in TOP}
    for name in [name for name in layers.main.data if name not in (*TOP, *NAMED, *ARRAYS, *LAID)]:
        scope.problem((name,), "" if report.full else unknown_section(name))
    fields = sections["daemon"]
    daemon = _of_home(fields, home, scope) if home else _daemon(fields, layers.main, scope)
    queues = _queues(layers, sections["defaults"], daemon, scope)
    limits, pools = _limits(scope), _pools(sections["defaults"], daemon, scope)
    queues = {**queues, **dict(_timed_by_pools(queues, pools, layers))}
    known = {*limits, *(layers.main.data["limits"] if isinstance(layers.main.data.get("limits"), dict) else ())}
    for key, text in agree.of_tables(queues, known, pools, layers.queues):
        report.problem(*_written(key, layers), text)
    own = {name: queue_table(layers, name) for name in layers.queues}
    for key, text in (*agree.of_targets(queues, own), *agree.of_limited(queues, limits, own)):
        report.problem(*_written(key, layers), text)
    if not layers.queues:
        report.warn(Place(layers.main.path), ("queues",), "there is no queue; write a [queues.NAME]")
    spec = Spec(
        files=layers.files,
        daemon=daemon,
        intake=Intake(**sections["intake"]),
        log=Log(**sections["log"]),
        access=home.access if home and "access" not in layers.main.data else Access(**sections["access"]),
        alerts=_alerts(sections["alerts"], queues, layers, scope),
        limits=limits,
        stats=Stats(**sections["stats"]),
        queues=queues,
        pools=pools,
        schedules=read_schedules(layers, queues, scope),
        scopes={} if home else _scopes(scope),
        outbox={} if home else read_outboxes(layers.main.data.get("outbox", []), daemon, scope),
        scope=home.name if home else "",
        flow_retention=construct(DEFAULTS, {"name": "defaults", **sections["defaults"]}).retention,
        warnings=report.warnings,
    )
    for key, text in agree.of_tasks(spec) if not report.count else ():
        report.problem(*_written(key, layers), text)
    return spec


def _section(name: str, scope: Scope) -> Fields:
    return read_section(TOP[name], scope.document.data.get(name, {}), (name,), scope)


def _daemon(fields: Fields, main: Document, scope: Scope) -> Daemon:
    database, run_dir = default_paths(main.path)
    daemon = Daemon(**{"database": database, "run_dir": run_dir, **fields})
    for key, text in agree.of_daemon(daemon):
        scope.problem(("daemon", *key), text)
    for folder in daemon.python_path:
        believe_folder(folder, scope.report, of=main.path)
    return daemon


def _of_home(fields: Fields, home: Home, scope: Scope) -> Daemon:
    """What [daemon] means in the file of a scope: what the main file says, and where its own handlers are."""
    for name, key in TOP["daemon"].keys.items():
        if key.field not in fields or key.field in ("python_path", "scope_of"):
            continue
        if fields[key.field] != getattr(home.daemon, key.field):
            text = f"differs from {quoted(home.main)}, whose daemon runs this scope, too; remove it here"
            scope.problem(("daemon", name), text)
    main = fields.get("scope_of")
    if main is None:
        wanted = os.path.relpath(home.main, scope.document.folder)
        text = f"is missing in the file of scope {home.name}, whose clients must find the daemon"
        scope.problem(("daemon", "scope_of"), f'{text}; write scope_of = "{wanted}"')
    elif not same_file(main, home.main):
        text = f"{quoted(main)} is another file than {quoted(home.main)}, which has this one as scope {home.name}"
        scope.problem(("daemon", "scope_of"), f"{text}; let both name each other")
    python_path = fields.get("python_path", home.daemon.python_path)
    for folder in python_path:
        believe_folder(folder, scope.report, of=scope.document.path)
    return msgspec.structs.replace(home.daemon, python_path=python_path, scope_of=home.main)


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


def _tables(section: str, scope: Scope, names: Kind = QUEUE_NAME) -> dict[str, Any]:
    """The named tables of a section, by name; names that cannot be are noted and left out."""
    tables = scope.document.data.get(section, {})
    if not isinstance(tables, dict):
        scope.problem((section,), f"is no table; write [{section}.NAME]")
        return {}
    return {name: table for name, table in tables.items() if _is_name(names, name, (section, name), scope)}


def _is_name(names: Kind, name: str, key: KeyPath, scope: Scope) -> bool:
    """Whether a name can be; if not, that is noted."""
    try:
        names.read(name, "")
    except ValueError as error:
        scope.problem(key, str(error))
        return False
    return True


def _scopes(scope: Scope) -> dict[str, ScopeTable]:
    found = {}
    for name, table in _tables("scopes", scope, SCOPE_NAME).items():
        before = scope.report.count
        fields = read_section(SCOPE, table, ("scopes", name), scope)
        if "config" not in fields and scope.report.count == before:
            scope.problem(("scopes", name), f'has no file; write config = "{name}/queues.toml"')
        if scope.report.count == before:
            found[name] = construct(SCOPE, {"name": name, **fields})
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
        own = {"name": name, "python_path": _path_of(fields, daemon), "strict": isinstance(table.get("sources"), list)}
        pool = construct(POOL, {**own, **inherit(inherited, fields)})
        if isinstance(pool.workers, int):
            pool = msgspec.structs.replace(pool, scale=Scale())
        found[name] = pool
        for key, text in (*agree.of_demand(pool), *agree.of_idle(table, pool)):
            scope.problem(("pools", name, *key), text)
    return found


def _timed_by_pools(
    queues: Mapping[str, Queue], pools: Mapping[str, Queue], layers: Layers
) -> Iterator[tuple[str, Queue]]:
    """The queues whose jobs have the time that their pool gives: those that say none themselves."""
    for pool in pools.values():
        for name in pool.sources:
            if name in queues and "timeout" not in queue_table(layers, name):
                yield name, msgspec.structs.replace(queues[name], timeout_ms=pool.timeout_ms)


def _path_of(fields: Mapping[str, Any], daemon: Daemon) -> tuple[str, ...]:
    """Where a pool imports from: a command imports nothing, and goes on whatever becomes of `python_path`."""
    return daemon.python_path if "handler" in fields else ()


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
    queue: Queue = construct(QUEUE, {"name": name, "python_path": _path_of(fields, daemon), **meant})
    if isinstance(queue.workers, int):
        queue = msgspec.structs.replace(queue, scale=Scale())  # [defaults] may speak of it for other queues
    for key, text in (
        *agree.of_inherited(queue),
        *agree.of_idle(written, queue),
    ):
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
