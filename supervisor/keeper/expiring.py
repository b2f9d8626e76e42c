"""What the clock ends: jobs that were not started in their time to live, and jobs that are not done by their deadline.

It runs before anything is leased in a pass. Where more is over than a pass has time for, what is leased meanwhile is
looked at one by one: nothing is handed out late.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from supervisor.job import State as JobState
from supervisor.keeper import callbacks, consuming, recall
from supervisor.keeper.housekeeping import CLOCK_LOOK_MS, Chores, back_at_ms
from supervisor.keeper.slots import Phase
from supervisor.keeper.work import SETTLE_UNTIL_US, Work
from supervisor.policy.expiry import Fate, fate
from supervisor.policy.settle import History
from supervisor.store.protocol import Expiry, Facts, Lease, Standing

EXPIRE_JOBS = 50
"""Jobs of one look at the time: a pass with one too many stays within its time."""

AGAIN_MS = 10
"""What is on its way to a worker can be neither taken back nor left: it is asked about again."""

EXPIRED, DEADLINE = "expired", "deadline"


def expire(work: Work, chores: Chores) -> None:
    """End what the clock ends, as far as the pass has time, and note when the next time is over.

    What a worker holds keeps its row, so that it is found in the pass in which it is handed back.
    """
    state, early_ms = work.state, work.tx.earliest_expiry_ms
    due = early_ms is not None and early_ms <= work.now_ms
    if not (due or state.overdue.waiting or work.boot_ms >= chores.expire_at_ms):
        if early_ms is not None:
            _be_back(work, chores, early_ms, sooner=True)
        return
    waiting: set[Expiry] = set()
    state.overdue.behind = False
    while rows := set(work.tx.expiring(EXPIRE_JOBS + len(waiting))) - waiting:
        waiting |= _expire_page(work, sorted(rows))
        if work.late(SETTLE_UNTIL_US):
            state.overdue.behind = True
            break
    state.overdue.waiting = len(waiting)
    _be_back(work, chores, _next_ms(work, waiting), sooner=False)


def _next_ms(work: Work, waiting: set[Expiry]) -> int:
    if work.state.overdue.behind:
        return work.now_ms
    if waiting:
        return work.now_ms + AGAIN_MS
    next_ms = work.tx.next_expiry_ms()
    return work.now_ms + CLOCK_LOOK_MS if next_ms is None else next_ms


def _be_back(work: Work, chores: Chores, due_ms: int, *, sooner: bool) -> None:
    at_ms = back_at_ms(work, due_ms)

    def effect() -> None:
        chores.expire_at_ms = min(chores.expire_at_ms, at_ms) if sooner else at_ms

    work.afterwards(effect)


def _expire_page(work: Work, rows: list[Expiry]) -> set[Expiry]:
    """Do what is to be done about each; returns those of jobs that a worker still holds."""
    ids = [row.id for row in rows]
    standing, facts = work.tx.standing(ids), work.tx.facts(ids)
    fates: dict[Fate, list[Expiry]] = defaultdict(list)
    for row in rows:
        where = standing.get(row.id)
        fates[_decide(work, row, where, facts[row.id]) if where else Fate.FORGET].append(row)
    held = {*fates.pop(Fate.TAKE_BACK, ()), *fates.pop(Fate.WAIT, ())}
    work.tx.forget_expiries([row for row in rows if row not in held])
    for decided, ttl in ((Fate.EXPIRE, True), (Fate.BURY, False)):
        _end(work, [facts[row.id] for row in fates[decided]], ttl=ttl)
    return held


def _decide(work: Work, row: Expiry, where: Standing, facts: Facts) -> Fate:
    """What is to be done about a job, once it was tried to take it back from a worker that has not begun it."""
    if not _applies(row, facts):
        return Fate.FORGET
    if not row.ttl and where.token is not None and consuming.cut(work, facts, where.token):
        return Fate.FORGET
    decided = _fate(work, row, where)
    if decided is Fate.TAKE_BACK:
        _take_back(work, where)
        decided = _fate(work, row, work.tx.standing([row.id])[row.id])
    return decided


def _applies(row: Expiry, facts: Facts) -> bool:
    """Whether the job still has this time: whoever revives a job sets it free of it."""
    options: Mapping[str, Any] = msgspec.json.decode(facts.options) if facts.options else {}
    return ("expires_at_ms" if row.ttl else "deadline_at_ms") in options


def _fate(work: Work, row: Expiry, where: Standing) -> Fate:
    return fate(where.state, ttl=row.ttl, started=where.history != History() or _runs(work, where))


def _runs(work: Work, where: Standing) -> bool:
    """Whether a worker has begun the job; where its slot is gone, so must be assumed."""
    if where.owner is None:
        return False
    slot = work.state.slot_of_owner(where.owner)
    return slot is None or any((cell.id, cell.token) == (where.id, where.token) for cell in slot.memory.cells())


def _take_back(work: Work, where: Standing) -> None:
    slot = work.state.slot_of_owner(where.owner or 0)
    if slot is not None and slot.phase is not Phase.JUDGED:
        recall.recall(work, slot)


def _end(work: Work, ending: Sequence[Facts], *, ttl: bool) -> None:
    state, reason = (JobState.CANCELLED, EXPIRED) if ttl else (JobState.DEAD, DEADLINE)
    ended = set(work.tx.expire([facts.id for facts in ending], state, reason)) if ending else set()
    work.final.update(ended)
    for facts in ending:
        if facts.id in ended and not ttl:
            work.buried(facts, None, reason)
            callbacks.dead(work, facts, facts.history, None, reason)


def without_late(work: Work, lease: Lease) -> Lease:
    """The lease without jobs whose time is over, which end here; looked at only while `expire` is behind."""
    if not work.state.overdue.behind:
        return lease
    late = [job.id for job in lease.jobs if job.options and _late(work, job.id, job.options)]
    if not late:
        return lease
    facts = work.tx.facts(late)
    work.tx.release(lease.token, late)
    for job_id in late:
        options = msgspec.json.decode(facts[job_id].options or b"{}")
        deadline_ms = options.get("deadline_at_ms")
        over = deadline_ms is not None and deadline_ms <= work.now_ms
        _end(work, [facts[job_id]], ttl=not over)
    return lease._replace(jobs=[job for job in lease.jobs if job.id not in late])


def _late(work: Work, job_id: int, written: bytes) -> bool:
    options = msgspec.json.decode(written)
    deadline_ms, expires_ms = options.get("deadline_at_ms"), options.get("expires_at_ms")
    if deadline_ms is not None and deadline_ms <= work.now_ms:
        return True
    if expires_ms is None or expires_ms > work.now_ms:
        return False
    # The row is there as long as no run was begun and snoozed; what was charged for a run shows in the history.
    unstarted = work.tx.standing([job_id])[job_id].history == History()
    return unstarted and work.tx.forget_expiries([Expiry(expires_ms, job_id, ttl=True)]) > 0
