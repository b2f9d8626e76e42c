"""From what the rings say to what becomes of the jobs: reads records, asks the policy, writes its decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from supervisor.config.names import scope_of
from supervisor.errors import JobsupError
from supervisor.job import (
    TASK_NAME_MAX,
    VERSION_MAX,
    Cancel,
    Done,
    Failed,
    Outcome,
    RateLimited,
    Snooze,
    State,
    Unknown,
)
from supervisor.keeper import breaking, callbacks, parking
from supervisor.keeper.allowance import budgets_of
from supervisor.keeper.children import children_of, joined
from supervisor.keeper.slots import KeeperSlot
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.policy import settle as policy
from supervisor.policy.counting import counted
from supervisor.policy.duration import MAX_MS
from supervisor.reading import read
from supervisor.store.protocol import AttemptError, Completion, Expiry, Facts, Group
from supervisor.unix import ring
from supervisor.unix.ring import Record, RingDamaged
from supervisor.unix.slot import FILE_BYTES_MAX, read_file, remove_file
from supervisor.wire.payload import too_deep

decode = msgspec.msgpack.decode
RUN_US_MAX = 10**15
CLASSES_MAX = 64
NOT_KEPT = frozenset({"message", "kind", "final", "classes", "delay_ms", "backoff_ms"})
"""What of a failure stands elsewhere, or only decides what is done about it."""
RECORDS_AT_ONCE = 4_096

UNREADABLE = (
    msgspec.MsgspecError, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip
"""All that reading bytes of somebody else's making may raise."""

TaskNeeded = Annotated[str, msgspec.Meta(max_length=TASK_NAME_MAX)]
"""Empty: the job names no task."""
VersionNeeded = Annotated[int, msgspec.Meta(ge=0, le=VERSION_MAX)]
"""0: any."""
Kept = tuple[Annotated[str, msgspec.Meta(max_length=100)], Annotated[bytes, msgspec.Meta(max_length=16 * 1024)]]
"""A name, empty for the cursor, and JSON."""
SnoozeMs = Annotated[int, msgspec.Meta(ge=0, le=MAX_MS)]


class FailedFields(msgspec.Struct, frozen=True):
    """The members of Failed as a worker writes them, each of the type that the store can keep."""

    message: str
    kind: Literal["error", "timeout"] = "error"
    type: str | None = None
    traceback: str | None = None
    last_output: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    final: bool = False
    classes: Annotated[tuple[str, ...], msgspec.Meta(max_length=CLASSES_MAX)] = ()
    delay_ms: SnoozeMs | None = None
    backoff_ms: SnoozeMs | None = None
    backoff_error: str | None = None


class Report(NamedTuple):
    """One outcome as a worker recorded it, read and checked."""

    id: int
    token: int
    started_at_ms: int
    run_us: int
    outcome: Outcome
    children: Sequence[Group] = ()


def settle_slot(work: Work, slot: KeeperSlot, records_max: int) -> int:
    """Settle what a slot's ring holds; returns how many records were read. Its position is in the transaction."""
    before = slot.ring.position
    work.on_failure(lambda: slot.ring.resume(before))
    try:
        records = slot.ring.read(records_max)
    except RingDamaged as damage:
        work.damaged(slot, damage)
        records = []
    if slot.ring.position != before:
        work.tx.advance(slot.owner, *slot.ring.position)
    if records:
        settle_records(work, slot, records)
    if slot.ring.position != before:
        hit("keeper.read_position")
        work.afterwards(lambda: hit("keeper.before_free"))
        work.afterwards(slot.ring.free)
    return len(records)


def settle_to_end(work: Work, slot: KeeperSlot) -> None:
    """Settle all that a slot's ring holds: its worker is dead, or what it has finished must be known now."""
    before = None
    while slot.ring.waiting() and slot.ring.position != before:
        before = slot.ring.position
        settle_slot(work, slot, RECORDS_AT_ONCE)


def settle_records(work: Work, slot: KeeperSlot, records: Sequence[Record]) -> None:
    """Settle records of one slot: plain completions by the batch, everything else one by one."""
    plain: dict[int, list[Completion]] = defaultdict(list)
    others: list[Report] = []
    run_us, now_ms = 0, work.now_ms
    for record in records:
        kind, job_id, token, started_ms, took_us, data = record
        if kind == ring.DONE and (not data or _is_json(data)):
            started_ms, took_us = min(started_ms, now_ms), min(took_us, RUN_US_MAX)
            plain[token].append(Completion(job_id, started_ms, started_ms + took_us // 1000, data or None))
            run_us += took_us
        elif kind == ring.HANDBACK:
            _hand_back(work, slot, record)
        elif kind == ring.CHECKPOINT:
            _keep(work, slot, record)
        else:
            others.append(_report(work, slot, record))
    leases = work.tx.open_leases()
    for token, dones in plain.items():
        lease = leases.get(token)
        ours = lease is not None and lease.owner == slot.owner
        stale = work.tx.complete(token, dones) if ours else [done.id for done in dones]
        work.ended(slot, [done.id for done in dones], token)
        work.stale(token, stale)
        if work.state.breakers and lease is not None:
            gone = set(stale)
            breaking.completed(work, lease.queue, [done.id for done in dones if done.id not in gone])
    counted = sum(map(len, plain.values()))
    if counted:
        work.ran(slot.pool, run_us // (slot.batch or 1), counted)  # a batch has run once, for all of its jobs
    if others:
        _settle_others(work, slot, others)


def _hand_back(work: Work, slot: KeeperSlot, record: Record) -> None:
    """Unstarted jobs come back; those that were taken back before are not held any more, and that is no news."""
    lease = work.tx.open_leases().get(record.token)
    if lease is None or lease.owner != slot.owner:
        return
    try:
        ids = msgspec.msgpack.decode(record.data, type=list[int])
    except msgspec.MsgspecError:
        return
    work.ended(slot, give_back(work, record.token, ids), record.token)


def _keep(work: Work, slot: KeeperSlot, record: Record) -> None:
    """A value that a run keeps for the next one: under the lease that the run has, or not at all."""
    lease = work.tx.open_leases().get(record.token)
    if lease is None or lease.owner != slot.owner:
        return
    try:
        name, value = decode(record.data, type=Kept)
        read(value)
    except UNREADABLE:
        return
    work.tx.checkpoint(record.token, record.id, name, value)


def give_back(work: Work, token: int, ids: Iterable[int]) -> list[int]:
    """Hand unstarted jobs back; those that a client cancelled meanwhile end here. Returns those that the lease held."""
    lease = work.tx.open_leases().get(token)
    held = [job_id for job_id in ids if lease is not None and job_id in lease.jobs]
    if not held:
        return []
    facts = work.tx.facts(held)
    cancelled = [job_id for job_id in held if job_id in facts and facts[job_id].cancel_at_ms is not None]
    for job_id in cancelled:
        write(work, facts[job_id], token, None, policy.Withdraw("cancelled by a client"), None)
    work.tx.release(token, held)
    return held


def _settle_others(work: Work, slot: KeeperSlot, reports: Sequence[Report]) -> None:
    facts = work.tx.facts({report.id for report in reports})
    leases = work.tx.open_leases()
    for report in reports:
        lease = leases.get(report.token)
        if report.id not in facts or lease is None or report.id not in lease.jobs or lease.owner != slot.owner:
            work.stale(report.token, [report.id])
            continue
        work.ran(slot.pool, report.run_us // (slot.batch or 1), 1)
        apply(work, facts[report.id], report, together=slot.batch > 0)
        work.ended(slot, [report.id], report.token)


def apply(work: Work, facts: Facts, report: Report, *, together: bool = False) -> None:
    """Write what the policy decides about one report. A cancelled job that did not complete is cancelled.

    `together`: it ran in a queue of batches: who runs out of time there is run alone next, lest others do for it again.
    """
    outcome = report.outcome
    if facts.cancel_at_ms is not None and not isinstance(outcome, Done):
        outcome = Cancel("cancelled by a client while it ran")
    refused, children = None, report.children
    if children and isinstance(outcome, Done):
        try:
            children = joined(children, facts.options)
            refused = work.refused_children(children)
        except JobsupError as error:
            refused = error
    if refused is not None:
        outcome = Failed(f"job.enqueue: {refused.message}", type=type(refused).__name__)
    if breaking.failed(work, facts, outcome):
        held = policy.after_outage(facts.history, budgets_of(work, facts), work.now_ms)
        write(work, facts, report.token, report.started_at_ms, held, None)
        return
    decision = policy.settle(facts.history, budgets_of(work, facts), outcome, work.now_ms, work.state.chance())
    if together and isinstance(outcome, Failed) and outcome.kind == "timeout":
        decision = policy.alone(decision)
    if isinstance(outcome, RateLimited) and isinstance(decision, policy.Later):
        work.tx.shut(facts.queue, facts.key if outcome.key_only else "", decision.due_at_ms)
    write(work, facts, report.token, report.started_at_ms, decision, error_of(outcome))
    if isinstance(decision, policy.Complete):
        breaking.completed(work, facts.queue, [facts.id])
        work.insert_children(children)


def write(
    work: Work, facts: Facts, token: int, started_at_ms: int | None, decision: policy.Decision,
    error: AttemptError | None,
) -> None:  # fmt: skip
    """Write a decision about a leased job, and say what people should hear of it."""
    tx, job_id = work.tx, facts.id
    ended = counted(decision, error.kind if error else None)
    if not isinstance(decision, (policy.Complete, policy.Park)):  # what was parked has not begun
        tx.count_run(facts.queue, token, job_id, started_at_ms, ended.names, measured=ended.measured)
    match decision:
        case policy.Complete(result):
            finished_ms = work.now_ms
            tx.complete(token, [Completion(job_id, started_at_ms or finished_ms, finished_ms, result)])
        case policy.Retry(due_at_ms, history, solo):
            tx.reschedule(token, job_id, due_at_ms, history, error, solo=solo)
            work.retried(facts, due_at_ms, error)
            callbacks.failed(work, facts, history, error, "retry")
        case policy.Later(due_at_ms):
            tx.reschedule(token, job_id, due_at_ms, facts.history, None, solo=facts.history.crashes > 0)
            _note_started(work, facts)
            work.snoozed(facts, due_at_ms, error)
        case policy.Release(history, solo):
            tx.interrupt(token, job_id, history, error or AttemptError("interrupted", "interrupted"), solo=solo)
        case policy.Bury(history, reason):
            tx.finish(token, job_id, State.DEAD, started_at_ms, reason, history, error)
            work.buried(facts, error, reason)
            if (history.failures, history.crashes) != facts.history[:2]:
                callbacks.failed(work, facts, history, error, reason)
            callbacks.dead(work, facts, history, error, reason)
        case policy.Park(need):
            parking.park(work, facts, token, need)
        case policy.Withdraw(reason):
            tx.finish(token, job_id, State.CANCELLED, started_at_ms, reason, facts.history, error)


def _note_started(work: Work, facts: Facts) -> None:
    """A run that was snoozed is charged to nothing, yet the job was started: its time to live is kept."""
    if facts.options and b"expires_at_ms" in facts.options:
        expires_at_ms = msgspec.json.decode(facts.options).get("expires_at_ms")
        if expires_at_ms is not None:
            work.tx.forget_expiries([Expiry(expires_at_ms, facts.id, ttl=True)])


def error_of(outcome: Outcome) -> AttemptError | None:
    """What is kept of an attempt that did not complete."""
    match outcome:
        case Failed(message, kind):
            detail = {
                name: value for name, value in outcome._asdict().items() if value is not None and name not in NOT_KEPT
            }
            return AttemptError(kind, message, msgspec.json.encode(detail))
        case Cancel(reason):
            return AttemptError("cancelled", reason or "the handler cancelled the job")
        case _:
            return None


def _report(work: Work, slot: KeeperSlot, record: Record) -> Report:
    """Read a record that is no plain completion. What cannot be read is a failure of its job, never ours."""
    children: Sequence[Group] = ()
    try:
        outcome, listed = _outcome(work, slot, record)
        if listed:
            children = children_of(work.state, listed, work.now_ms, scope_of(slot.pool))
    except JobsupError as error:
        outcome = Failed(f"job.enqueue: {error.message}", type=type(error).__name__)
    except UNREADABLE as error:
        outcome = Failed(f"the outcome could not be read: {error}", type="InvalidOutcome")
    started_ms = min(record.started_ms, work.now_ms)
    return Report(record.id, record.token, started_ms, min(record.run_us, RUN_US_MAX), outcome, children)


def _outcome(work: Work, slot: KeeperSlot, record: Record) -> tuple[Outcome, list[Any]]:
    kind, data = record.kind, record.data
    if kind & ring.SPILLED:
        name = data.decode()
        if not name.startswith("outcome-") or "/" in name:
            raise ValueError("the file it names is none of an outcome")
        data = read_file(slot.folder, name, FILE_BYTES_MAX)
        work.afterwards(lambda: remove_file(slot.folder, name))
        kind &= ~ring.SPILLED
    if kind == ring.DONE_WITH_CHILDREN:
        result, listed = decode(data, type=tuple[bytes | None, list[tuple[str, bytes, dict[str, Any]]]])
        return Done(_checked_result(result)), listed
    if kind not in READERS:
        raise ValueError(f"there is no outcome of kind {kind}")
    return READERS[kind](data), []


def _checked_result(result: bytes | None) -> bytes | None:
    if not result:
        return None
    if not _is_json(result):
        raise ValueError("the result is no JSON, or is nested too deeply")
    return result


def _is_json(data: bytes) -> bool:
    """Whether a result is what it must be: it comes from a process that ran user code."""
    try:
        read(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return not too_deep(data)


def _rate_limited(data: bytes) -> RateLimited:
    delay_ms, key_only = decode(data, type=tuple[SnoozeMs, bool])
    return RateLimited(delay_ms / 1000, key_only)


READERS: Mapping[int, Callable[[bytes], Outcome]] = {
    ring.DONE: lambda data: Done(_checked_result(data)),
    ring.FAILED: lambda data: Failed(**msgspec.structs.asdict(decode(data, type=FailedFields))),
    ring.SNOOZE: lambda data: Snooze(decode(data, type=SnoozeMs) / 1000),
    ring.RATE_LIMITED: _rate_limited,
    ring.CANCEL: lambda data: Cancel(decode(data, type=str)),
    ring.UNKNOWN: lambda data: Unknown(*decode(data, type=tuple[TaskNeeded, VersionNeeded])),
}
"""What is read of a record, by its kind; each raises one of `UNREADABLE` where that is nothing."""
