"""Why a job is not running: what the rows say, and what only the keeper knows of workers and pools."""

from __future__ import annotations

from typing import Any

from supervisor.config.names import short_name
from supervisor.config.spec import Spec
from supervisor.flow.standing import explanation, next_steps
from supervisor.job import State as JobState
from supervisor.keeper.gathering import gathered_of
from supervisor.keeper.state import State
from supervisor.policy.batch import due_at_ms, lacking
from supervisor.policy.breaker import Breaker
from supervisor.policy.reason import Reason
from supervisor.policy.tasks import meant, meets, need_of
from supervisor.store import breaker_view
from supervisor.store.explain import Explained
from supervisor.store.reader import Reader, instant
from supervisor.unix.clock import boot_ms, wall_ms

TURNS = ("behind", "behind_lanes")
"""Reasons which say that others come first."""

STEPS_MAX = 3
"""Of a flow's steps that go on, so many are explained one by one."""

FIRST = ("orphaned", "store", "paused", "stopping", "breaker", "circuit", "no_worker")
"""Reasons that come before all others: while one of them holds, nothing else matters."""


def explain(state: State, reader: Reader, job_id: int) -> dict[str, Any]:
    """The answer to a client: one sentence, and every reason with its numbers.

    Raises:
        UnknownJob: there is none of that id.
    """
    found = reader.explain(job_id, state.discipline, wall_ms())
    if found is None:
        raise reader.unknown_job(job_id)
    reasons = found.reasons
    if found.state is JobState.RUNNING:
        reasons = [_running(state, job_id, reasons[0])]
    elif found.state is JobState.BLOCKED:
        reasons = [_of_code(state, found.queue, reason) for reason in reasons]
    elif found.state is JobState.QUEUED:
        gathers = of_batch(state, found.queue)
        known = [*of_queue(state, found.queue), *(without_turn(reasons) if gathers else reasons), *gathers]
        reasons = sorted(known, key=lambda reason: FIRST.index(reason.kind) if reason.kind in FIRST else len(FIRST))
        reasons = reasons or [of_workers(state, found.queue)]
    return shown(job_id, found, reasons)


def explain_any(state: State, reader: Reader, number: int, scope: str | None) -> dict[str, Any]:
    """The same of a job or of a flow, with the first reasons of steps that go on: both have ids of one sequence.

    Raises:
        UnknownJob: there is neither.
    """
    if reader.flow_alone(number, scope) is None:
        return explain(state, reader, number)
    flow = reader.flow(number, scope)
    assert flow is not None, "nothing is written between the two"
    told = explanation(flow)
    for step in next_steps(flow)[:STEPS_MAX]:
        of_step = explain(state, reader, step)
        told["reasons"].append(of_step["reasons"][0] | {"job": step, "sentence": of_step["sentence"]})
    return told


def _of_code(state: State, queue: str, reason: Reason) -> Reason:
    """A job that only some pools of its queue run waits for a worker of theirs."""
    if reason.kind != "no_code":
        return reason
    need = need_of(reason.facts["task"], reason.facts["version"])
    tables = {pool: state.tasks.table(pool) for pool in state.pools_of(queue)}
    pool = next((pool for pool, table in tables.items() if meets(table, need)), None)
    if pool is not None:
        return Reason("other_code", {**reason.facts, "pool": pool})
    hint = meant(need.task, tables.values())
    return Reason("no_code", {**reason.facts, "meant": hint}) if hint else reason


def without_keeper(spec: Spec, found: Explained, breaker: Breaker | None) -> list[Reason]:
    """What keeps a job waiting while no daemon runs; no worker is spoken of, as there are none."""
    if found.state.final:
        return found.reasons
    halted = [] if spec.queue(found.queue) is None else of_breaker(spec, found.queue, breaker)
    orphaned = [Reason("orphaned", {"queue": found.queue})] if spec.queue(found.queue) is None else []
    return [Reason("not_running"), *orphaned, *halted, *found.reasons]


def of_breaker(spec: Spec, queue: str, known: Breaker | None) -> list[Reason]:
    """Whether the breaker of a queue keeps its jobs waiting."""
    table = spec.queue(queue)
    breaker = breaker_view.shown(table.breaker if table else None, known, wall_ms())
    said = breaker_view.standing(breaker)
    return [Reason("breaker", {"queue": queue, "state": breaker["state"], "said": said})] if breaker and said else []


def of_queue(state: State, queue: str) -> list[Reason]:
    """What keeps all jobs of a queue waiting, beside what the rows say."""
    pool, pulled = state.pool_of(queue), state.queue(queue).pull
    if pool is None and not pulled:
        return [Reason("orphaned", {"queue": queue})]
    found = []
    if state.failure is not None:
        found.append(Reason("store", {"error": state.failure}))
    if state.control is None:
        found.append(Reason("not_running"))
    elif not state.leasing:
        found.append(Reason("stopping"))
    found += of_breaker(state.spec, queue, state.breakers.get(queue))
    if pool is None:
        return [*found, *_of_consumers(state, queue)]
    said = state.pools.get(pool)
    if said is not None and said.circuit != "closed":
        found.append(
            Reason("circuit", {"pool": pool, "circuit": said.circuit, "reason": said.reason or "no reason given"})
        )
    elif state.control is not None and not state.ready_slots(pool):
        found.append(Reason("no_worker", {"pool": pool, "reason": said.reason if said else None}))
    return found


def of_batch(state: State, queue: str) -> list[Reason]:
    """Whether what is ready of a queue waits for more jobs of its batch, and for no worker."""
    found, pool = gathered_of(state, queue), state.pool_of(queue)
    if found is None or pool is None or not any(slot.idle for slot in state.slots_of(pool)):
        return []
    in_ms = due_at_ms(*found) - boot_ms()
    return [Reason("gathers", {"lacking": lacking(*found), "in_ms": in_ms})] if in_ms > 0 else []


def without_turn(reasons: list[Reason]) -> list[Reason]:
    """The reasons that keep a job out of a batch; whoever else comes first of the queue is in it as well."""
    return [reason for reason in reasons if reason.kind not in TURNS]


def _of_consumers(state: State, queue: str) -> list[Reason]:
    """Whether nobody asks for jobs of a queue that consumers fetch from."""
    asked = any(fetch.request.queue == queue for fetch in state.lending.fetches())
    return [] if asked else [Reason("no_consumer", {"queue": queue})]


def of_workers(state: State, queue: str) -> Reason:
    """Nothing keeps the job waiting: its turn comes when a worker has room."""
    pool = state.pool_of(queue)
    slots = state.ready_slots(pool) if pool else []
    if slots and not any(slot.idle for slot in slots):
        return Reason("busy", {"pool": pool, "workers": len(slots)})
    return Reason("next")


def _running(state: State, job_id: int, leased: Reason) -> Reason:
    """Whether a worker has begun it, and how far it says it is, by what the slots say."""
    for slot in state.slots.values():
        cells = slot.memory.cells()
        if any(cell.id == job_id for cell in cells):
            said = slot.memory.progress()
            facts = dict(leased.facts)
            if said is not None and (said.id, said.token) == (job_id, facts["token"]):
                facts |= {"fraction": said.fraction, "text": said.text}
            alone = len(cells) == 1
            return Reason("running", facts) if alone else Reason("running_batch", facts | {"jobs": len(cells)})
    return leased


def shown(job_id: int, found: Explained, reasons: list[Reason]) -> dict[str, Any]:
    """An explanation as clients get it, with names as they are known within the job's scope."""
    queue, reasons = short_name(found.queue), [in_short(reason) for reason in reasons]
    return {
        "id": job_id,
        "queue": queue,
        "key": found.key or None,
        "state": found.state.value,
        "sentence": f"job {job_id} of {queue}: {reasons[0].sentence}",
        "reasons": [{"kind": reason.kind, "sentence": reason.sentence, **dict(units(reason))} for reason in reasons],
    }


def in_short(reason: Reason) -> Reason:
    """The reason with short names of queues, pools and limits."""
    facts = {name: short_name(fact) if name in ("queue", "pool") else fact for name, fact in reason.facts.items()}
    if "name" in facts:
        kind, _, name = facts["name"].partition(":")
        facts["name"] = f"{kind}:{short_name(name)}"
    return Reason(reason.kind, facts)


def units(reason: Reason) -> list[tuple[str, Any]]:
    """The facts of a reason in the units that users' scripts know: seconds, and instants as text."""
    found: list[tuple[str, Any]] = []
    for name, fact in reason.facts.items():
        if name.endswith("_at_ms"):
            found.append((name.removesuffix("_ms"), instant(fact)))
        elif name.endswith("_ms"):
            found.append((name.removesuffix("_ms") + "_s", None if fact is None else fact / 1000))
        else:
            found.append((name, fact))
    return found
