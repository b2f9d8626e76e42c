"""What the socket answers without writing: about one job, the queues, the workers, the processes."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from supervisor.config.spec import is_pattern
from supervisor.job import State as JobState
from supervisor.keeper.alerting import Alerting
from supervisor.keeper.gathering import gathered_of
from supervisor.keeper.outboxes import Outboxes
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.state import State
from supervisor.policy.batch import due_at_ms
from supervisor.store import breaker_view
from supervisor.store.reader import Reader, instant
from supervisor.unix.clock import boot_ms, wall_ms
from supervisor.unix.memory import W_DONE
from supervisor.version import PROTOCOL, VERSION

SCALE_KEYS = ("workers_min", "workers_max", "workers_target", "scale_reason", "scale_source")
ORPHANED = "not in the configuration; jobsctl move takes its jobs to another queue"


def hello(state: State) -> dict[str, Any]:
    """Who is answering."""
    return {
        "version": VERSION,
        "protocol": PROTOCOL,
        "pid": master_pid(state),
        "queues": sorted(state.spec.queues),
        "uptime_s": uptime_s(state),
    }


def master_pid(state: State) -> int:
    """The daemon's process as systemd knows it."""
    return os.getppid() if state.control else os.getpid()


def uptime_s(state: State) -> float:
    """Seconds since the master started."""
    return max(0.0, (boot_ms() - state.epoch) / 1000)


def job(state: State, reader: Reader, job_id: int) -> dict[str, Any]:
    """Everything about a job.

    Raises:
        UnknownJob: there is none of that id.
    """
    shown = reader.job(job_id)
    if shown is None:
        raise reader.unknown_job(job_id)
    if shown["state"] == JobState.RUNNING:
        _add_progress(state, shown)
    return shown


def job_or_flow(state: State, reader: Reader, number: int, scope: str | None = None) -> dict[str, Any]:
    """Everything about a job, or about a flow without its steps: both have ids of one sequence.

    Raises:
        UnknownJob: there is neither.
    """
    shown = reader.flow_alone(number, scope)
    return job(state, reader, number) if shown is None else shown


def _add_progress(state: State, shown: dict[str, Any]) -> None:
    """When a leased job was really begun; until then no worker is at it."""
    slot = state.slots.get(shown["worker"]["slot"]) if shown["worker"] else None
    cells = slot.memory.cells() if slot else []
    cell = next((cell for cell in cells if cell.id == shown["id"] and cell.token == shown["token"]), None)
    if cell is None:
        shown["worker"] = None
    else:
        said = slot.memory.progress() if slot else None
        if said is not None and (said.id, said.token) == (shown["id"], shown["token"]):
            shown["progress"] = {"fraction": said.fraction, "text": said.text, "at": instant(said.at_ms)}
        shown["started_at"] = instant(wall_ms() - max(0, boot_ms() - cell.started_ms))


def status(state: State, reader: Reader, alerting: Alerting, outboxes: Outboxes) -> dict[str, Any]:
    """The daemon and every queue, and how alerts and outboxes stand."""
    counts, oldest, paused = reader.counts(), reader.oldest_queued_ms(), reader.paused()
    reranked = reader.reranked()
    names = sorted({*_named(state), *(name for name, jobs in counts.items() if any(jobs.values()))})
    now_ms = wall_ms()
    served = _consumers_by_queue(state, reader)
    return {
        "daemon": {
            **_daemon(state),
            "reload_error": state.reload_error,
            "store": state.failure,
            "stale": reader.setting("stale"),
            "wal_bytes": state.store.wal_bytes(),
        },
        "queues": {
            name: _queue(state, name, counts.get(name), oldest.get(name), name in paused, now_ms)
            | {"reranked": reranked.get(name), "consumers": served[name] if _pulled(state, name) else None}
            for name in names
        },
        "schedules": reader.schedules_overview(),
        "alerts": alerting.status(),
        "outboxes": outboxes.status(),
    }


def _daemon(state: State) -> dict[str, Any]:
    """A one-shot keeper answers for the database; that no daemon runs it says as well."""
    if state.control is None:
        return {"running": False, "pid": None, "uptime_s": None, "version": None}
    return {"running": True, "pid": master_pid(state), "uptime_s": uptime_s(state), "version": VERSION}


def _queue(
    state: State, name: str, counts: dict[str, int] | None, oldest_ms: int | None, paused: bool, now_ms: int
) -> dict[str, Any]:  # fmt: skip
    served_by = state.pool_of(name)
    pool = state.pools.get(served_by or "")
    orphaned = state.spec.queue(name) is None
    table = state.spec.queue(name)
    breaker = breaker_view.shown(table.breaker if table else None, state.breakers.get(name), now_ms)
    halted = breaker_view.sentence(breaker)
    reason = ORPHANED if orphaned else (pool.reason if pool else None) or halted or _short_of_room(state, served_by)
    return {
        **(counts or dict.fromkeys((state.value for state in JobState), 0)),
        "oldest_queued_s": None if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000,
        "pool": served_by,
        "workers": len(state.ready_slots(served_by)) if served_by else 0,
        **_scale(state, served_by),
        "paused": paused,
        "circuit": pool.circuit if pool else "closed",
        "reason": reason,
        "detail": pool.detail if pool else None,
        "preloaded": pool.preloaded if pool else None,
        "orphaned": orphaned,
        "pull": _pulled(state, name),
        "breaker": breaker,
        "batch": _batch(state, name, served_by),
    }


def _batch(state: State, name: str, pool: str | None) -> dict[str, Any] | None:
    """How many jobs of a queue its handler takes at once, and what has gathered for the next call; None: one by one."""
    rule = state.batch_rule(pool) if pool else None
    if rule is None:
        return None
    found = gathered_of(state, name)
    in_ms = due_at_ms(*found) - boot_ms() if found else None
    return {
        "size": rule.size,
        "wait_s": rule.wait_ms / 1000,
        "gathered": min(found[0].ready, rule.size) if found else 0,
        "due_in_s": None if in_ms is None else max(0, in_ms) / 1000,
    }


def _pulled(state: State, name: str) -> bool:
    """Whether consumers fetch the jobs of a queue."""
    table = state.spec.queue(name)
    return table is not None and table.pull


def _scale(state: State, name: str | None) -> dict[str, Any]:
    """How many workers the pool may have, and is to have; reason and source where the number follows the load."""
    queue = state.workplaces.get(name) if name else None
    if queue is None or name is None:
        return dict.fromkeys(SCALE_KEYS)
    said = state.scaled.get(name) if queue.autoscaled else None
    target = said.target if said else (None if queue.autoscaled else queue.workers_max)
    known = (queue.workers_min, queue.workers_max, target, said.reason if said else None, said.source if said else None)
    return dict(zip(SCALE_KEYS, known, strict=True))


def _named(state: State) -> list[str]:
    """The queues that the configuration names; those of a pattern are there from their first job on."""
    return [name for name in state.spec.queues if not is_pattern(name)]


def _short_of_room(state: State, pool: str | None) -> str | None:
    """Why a job that was leased is not sent to its worker."""
    slots = state.slots_of(pool) if pool else ()
    return next((f"a job waits: {slot.no_room}" for slot in slots if slot.no_room), None)


def workers(state: State) -> dict[str, Any]:
    """Every worker, with what it does now; who asks adds what it uses."""
    return {"workers": [_worker(slot) for slot in state.slots.values() if slot.pid]}


def _worker(slot: KeeperSlot) -> dict[str, Any]:
    cell = next(iter(slot.memory.cells()), None)
    busy = slot.phase is Phase.READY and cell is not None
    return {
        "queue": slot.pool,
        "slot": slot.number,
        "pid": slot.pid,
        "state": "busy" if busy else slot.phase.value,
        "job_id": cell.id if cell else None,
        "running_s": max(0, boot_ms() - cell.started_ms) / 1000 if cell else None,
        "done": slot.memory.word(W_DONE),
        "restarts": slot.restarts,
        "uptime_s": max(0, boot_ms() - slot.started_at_ms) / 1000,
        "held": len(slot.out),
    }


def consumers(state: State, reader: Reader) -> dict[str, Any]:
    """What consumers hold, lease by lease, and who waits for jobs."""
    waiting: list[dict[str, Any]] = [
        {
            "queue": fetch.request.queue, "consumer": fetch.name, "pid": fetch.connection.peer.pid, "state": "waiting",
            "token": None, "jobs": [], "since_at": None,
            "until_at": instant(wall_ms() + max(0, fetch.over_ms - boot_ms())),
        }
        for fetch in state.lending.fetches()
    ]  # fmt: skip
    return {"consumers": [*reader.consumers(), *waiting]}


def _consumers_by_queue(state: State, reader: Reader) -> Counter[str]:
    """How many consumers hold jobs of each queue, or wait for some."""
    names = {(each["queue"], each["consumer"]) for each in consumers(state, reader)["consumers"]}
    return Counter(queue for queue, _ in names)


def tree(state: State) -> dict[str, Any]:
    """Every process: those that the master watches, and the workers that foremen watch."""
    now_ms = boot_ms()
    nodes = [
        {name: value for name, value in node.items() if name != "since_ms"}
        | {"uptime_s": None if node["since_ms"] is None else (now_ms - node["since_ms"]) / 1000}
        for node in state.tree
    ]
    parents = {node["queue"]: node["path"] for node in nodes if node["role"] == "foreman"}
    for worker in workers(state)["workers"]:
        parent = parents.get(worker["queue"], f"jobsupd/pool {worker['queue']}")
        nodes.append(
            {
                "path": f"{parent}/{worker['queue']}/{worker['slot']}",
                "parent": parent,
                "role": "worker",
                "pid": worker["pid"],
                "state": worker["state"],
                "uptime_s": worker["uptime_s"],
                "restarts": worker["restarts"],
                "circuit": None,
                "queue": worker["queue"],
                "slot": worker["slot"],
            }
        )
    return {"tree": nodes}
