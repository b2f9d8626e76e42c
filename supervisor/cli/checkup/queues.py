"""Checks of queues and jobs, and of what queues need of this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisor.cli.checkup.finding import Finding, note, problem, warning
from supervisor.cli.checkup.site import Site
from supervisor.config.names import scope_of

if TYPE_CHECKING:
    from supervisor.policy.tasks import Known

UNIT = "jobsup.service"
UNIT_PATH = (
    "/etc/systemd/system:/run/systemd/system:/usr/local/lib/systemd/system:/usr/lib/systemd/system:/lib/systemd/system"
)
CLOCK_SLACK_MS = 5_000
OPENED_BY = {"network.conf": ("PrivateNetwork", ("no", "false", "0", "off")), "users.conf": ("AmbientCapabilities", ())}
"""What a drop-in of the user's own must say to count as the one that we ship."""


def queue_orphaned(site: Site) -> Iterator[Finding]:
    """Jobs of a queue that left the configuration wait for ever."""
    if not (site.reader and site.spec):
        return
    for name, counts in sorted(site.reader.counts().items()):
        waiting = sum(counts[state] for state in ("blocked", "scheduled", "queued", "running"))
        if site.spec.queue(name) is None and waiting:
            text = f"{_jobs(waiting)} of queue {name} waiting, and the configuration no longer has it"
            yield warning("queue_orphaned", text, f"jobsctl move {name} NEW moves them; or add the queue again")
    if not site.spec.scope:
        yield from _scopes_orphaned(site)


def _scopes_orphaned(site: Site) -> Iterator[Finding]:
    """Jobs of a scope that left the configuration: nobody sees them until it is there again."""
    from supervisor.store.reader import Reader

    assert site.spec is not None
    waiting: dict[str, int] = {}
    for name, counts in Reader(site.connection, site.spec.queue).counts().items():
        if (scope := scope_of(name)) and scope not in site.spec.scopes:
            unfinished = sum(counts[state] for state in ("blocked", "scheduled", "queued", "running"))
            waiting[scope] = waiting.get(scope, 0) + unfinished
    for scope, jobs in sorted(waiting.items()):
        if jobs:
            text = f"{_jobs(jobs)} of scope {scope} waiting, and the configuration no longer has it"
            yield warning("queue_orphaned", text, f"add [scopes.{scope}] again; then move or purge them within it")


def queue_paused(site: Site) -> Iterator[Finding]:
    """Somebody paused a queue, and its jobs wait."""
    if site.reader is None:
        return
    counts = site.reader.counts()
    for name in sorted(site.reader.paused()):
        if waiting := counts.get(name, {}).get("queued", 0):
            text = f"queue {name} is paused; {_jobs(waiting)} waiting"
            yield warning("queue_paused", text, f"jobsctl resume {name}")


def circuit_open(site: Site) -> Iterator[Finding]:
    """A pool has given up restarting its workers."""
    for name, queue in sorted((site.status or {}).get("queues", {}).items()):
        if queue["circuit"] not in (None, "closed"):
            text = f"the pool of queue {name} has stopped (circuit {queue['circuit']}): {queue['reason']}"
            yield problem("circuit_open", text, f"mend what it says; then jobsctl resume {name} tries again at once")


def queue_without_workers(site: Site) -> Iterator[Finding]:
    """Jobs wait, and the daemon has no worker for them."""
    for name, queue in sorted((site.status or {}).get("queues", {}).items()):
        served = queue["paused"] or queue["circuit"] not in (None, "closed") or queue["workers"]
        table = site.spec.queue(name) if site.spec else None
        if queue["queued"] and not served and table and not table.pull:
            text = f"{_jobs(queue['queued'])} of queue {name} waiting, and none of its workers is ready"
            yield warning("queue_without_workers", text, "jobsctl tree shows what they do; the log of jobsupd says why")


def task_unknown(site: Site) -> Iterator[Finding]:
    """Jobs wait for code that knows their task, or their version of it: a deploy to come, or a misspelt name."""
    from supervisor.policy.reason import Reason
    from supervisor.policy.tasks import Need, meant, meets, table_of

    if not (site.reader and site.spec):
        return
    known = site.reader.tasks()
    for queue, task, version, jobs in site.reader.blocked_needs():
        tables = [table_of(known.get(pool, ())) for pool in site.spec.pools_of(queue) or (queue,)]
        if any(meets(table, Need(task, version)) for table in tables):
            continue
        hint = meant(task, tables)
        why = Reason("no_code", {"queue": queue, "task": task, "version": version, "meant": hint}).sentence
        text = f"{_jobs(jobs)} of queue {queue} parked: {why}"
        remedy = "deploy that code, and restart jobsupd: they start by themselves"
        others = f"jobsctl tasks {queue} lists what is known, and jobsctl edit ID --task names another"
        yield warning("task_unknown", text, f"{remedy}; {others}")


def schedule_misfits(site: Site) -> Iterator[Finding]:
    """A schedule's jobs will be parked or refused: no code knows its task, or its payload does not fit that."""
    from supervisor.policy.tasks import meant, table_of

    if not (site.reader and site.spec):
        return
    published = site.reader.tasks()
    for name, schedule in sorted(site.spec.schedules.items()):
        pools = site.spec.pools_of(schedule.queue) or (schedule.queue,)
        tables = [table_of(published[pool]) for pool in pools if pool in published]
        if schedule.task is None or not any(tables):
            continue
        fitting = [table[schedule.task] for table in tables if schedule.task in table]
        if not fitting:
            hint = meant(schedule.task, tables)
            text = f"schedule {name} is for task {schedule.task}, which no code knows" + (f" ({hint})" if hint else "")
            yield warning("schedule_misfits", text, "write the task that is meant and reload, or deploy its code")
        elif (wrong := _misfit(max(fitting, key=lambda known: known.version), schedule.payload)) is not None:
            text = f"the payload of schedule {name} does not fit task {schedule.task}: {wrong}"
            yield warning("schedule_misfits", text, "jobsctl tasks --json shows what it takes; mend it and reload")


def _misfit(known: Known, payload: str | None) -> str | None:
    """Why a payload does not fit the newest version of a task."""
    import json

    from supervisor.keeper.published import check_of

    check = check_of(known.schema) if known.schema else None
    try:
        if check is not None:
            check(json.loads(payload or "null"))
    except ValueError as error:
        return str(error)
    return None


def dead_letters(site: Site) -> Iterator[Finding]:
    """Jobs that were given up."""
    if site.reader is None:
        return
    for name, counts in sorted(site.reader.counts().items()):
        if counts["dead"]:
            text = f"{_jobs(counts['dead'])} of queue {name} {'is' if counts['dead'] == 1 else 'are'} dead"
            yield note("dead_letters", text, f"jobsctl dead list --queue {name} says why; dead retry runs them again")


def clock_behind(site: Site) -> Iterator[Finding]:
    """The clock was set back, or was ahead for a while: what is due at a time of day comes late."""
    from supervisor.unix.clock import wall_ms

    newest = site.rows("SELECT enqueued_at FROM job ORDER BY id DESC LIMIT 1") if site.reader else []
    ahead_ms = newest[0]["enqueued_at"] - wall_ms() if newest else 0
    if ahead_ms > CLOCK_SLACK_MS:
        from supervisor.cli.render import seconds

        text = f"the newest job was enqueued {seconds(ahead_ms / 1000)} after what the clock says now"
        yield problem("clock_behind", text, "set the clock (timedatectl); scheduled jobs follow it")


def drop_in_missing(site: Site) -> Iterator[Finding]:
    """A queue needs what the unit as shipped denies."""
    from supervisor.config.sandbox import needs

    if site.spec is None:
        return
    folders = site.environ.get("SYSTEMD_UNIT_PATH", "").rstrip(":") or UNIT_PATH
    unit = _first_text([os.path.join(folder, UNIT) for folder in folders.split(":")])
    if unit is None or site.spec.files[0] not in unit:
        return
    texts = _drop_in_texts(folders.split(":"))
    for name, queue in sorted(site.spec.workplaces.items()):
        for need in needs(queue):
            if not _opened(need.drop_in, texts):
                yield problem("drop_in_missing", f"queue {name} {need.sentence.partition('; ')[0]}",
                              need.sentence.partition("; ")[2])  # fmt: skip


CHECKS = (
    queue_orphaned, queue_paused, circuit_open, queue_without_workers, task_unknown, schedule_misfits, dead_letters,
    clock_behind,
    drop_in_missing,
)  # fmt: skip


def _first_text(paths: list[str]) -> str | None:
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            continue
    return None


def _drop_in_texts(folders: list[str]) -> dict[str, str]:
    """Drop-ins of the unit by file name; as for systemd, the first folder that has a name has the last word."""
    found: dict[str, str] = {}
    for folder in (f"{folder}/{UNIT}.d" for folder in folders):
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".conf"))
        except OSError:
            continue
        for name in names:
            if name not in found and (text := _first_text([f"{folder}/{name}"])) is not None:
                found[name] = text
    return found


def _opened(drop_in: str, texts: dict[str, str]) -> bool:
    """Whether the drop-in is there under its name, or another one says what it says."""
    key, values = OPENED_BY[drop_in]
    said = [line.partition("=")[2].strip() for text in texts.values() for line in text.splitlines()
            if line.strip().startswith(f"{key}=")]  # fmt: skip
    return drop_in in texts or any(value in values if values else "CAP_SETUID" in value for value in said)


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"
