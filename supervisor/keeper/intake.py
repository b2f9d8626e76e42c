"""Enqueueing: groups gather and are committed together; who waits for which commit is the reply's business.

committed: the reply follows the synced commit that holds the group. buffered: the reply goes at once, with ids of
a reserved block, and the group is flushed by size, by interval and at stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from supervisor.errors import Busy, JobsupError, PayloadTooLarge, QueueFull, UnknownQueue
from supervisor.job import GROUP_BYTES_MAX
from supervisor.job import State as JobState
from supervisor.keeper.children import group_of, known_queue
from supervisor.keeper.pending import PendingGroup
from supervisor.keeper.state import State
from supervisor.keeper.work import INSERT_UNTIL_US, Work
from supervisor.observe.failpoint import hit
from supervisor.policy.discipline import WAIT
from supervisor.store.protocol import Group, Inserted, NewFlow
from supervisor.wire.messages import Enqueue

JOBS_AT_ONCE = 256
BLOCK_IDS = 16_384
BLOCK_LOW = 10_000
UNFIT_MAX = 1_000
"""Groups that may wait for room in their queues; more are refused at once."""


def accept(
    state: State, request: Enqueue, now_ms: int, boot_ms: int,
    answer: Callable[[Inserted, str], None], refuse: Callable[[JobsupError], None],
) -> None:  # fmt: skip
    """Check a group and let it wait for the next pass.

    Raises:
        UnknownQueue, InvalidPayload, PayloadTooLarge: nothing of the group is kept.
    """
    group = group_of(state, request.queue, request.jobs, now_ms, key=request.key)
    size = sum(len(job.payload) for job in group.jobs)
    if size > GROUP_BYTES_MAX:
        raise PayloadTooLarge(f"the group has {size} bytes of payloads, the limit is {GROUP_BYTES_MAX}")
    until_ms = None if request.within_ms is None else boot_ms + request.within_ms
    state.intake.append(PendingGroup(group, size, answer, refuse, until_ms))
    hit("keeper.after_accept")


def insert(work: Work, *, flush: bool) -> None:
    """Take groups that wait into the transaction: as many as fit into a pass, at least one."""
    state = work.state
    _retry_unfit(work)
    buffered = state.spec.intake.acknowledge == "buffered"
    if buffered:
        _reserve(work)
        _insert_bounded(work)
        _buffer(work)
    if state.buffer and (flush or _flush_due(state, work.boot_ms)):
        _flush(work)
    if not buffered:
        _insert_waiting(work)


def _insert_waiting(work: Work) -> None:
    """Insert what waits, some groups at a time, while the pass has time; the first in any case."""
    state = work.state
    while state.intake:
        taken = [state.intake.popleft()]
        jobs = len(taken[0].group.jobs)
        while state.intake and jobs + len(state.intake[0].group.jobs) <= JOBS_AT_ONCE:
            taken.append(state.intake.popleft())
            jobs += len(taken[-1].group.jobs)
        _insert_groups(work, taken)
        if work.late(INSERT_UNTIL_US):
            return


def _insert_groups(work: Work, taken: list[PendingGroup]) -> None:
    state = work.state
    work.on_failure(lambda: state.intake.extendleft(reversed(taken)))
    answers = work.tx.insert([pending.group for pending in taken])
    work.inserted(answers)
    refused = [(pending, answer.refused) for pending, answer in zip(taken, answers, strict=True) if answer.refused]

    def effect() -> None:
        hit("keeper.before_reply")
        leased = work.leased_ids()
        for pending, inserted in zip(taken, answers, strict=True):
            if inserted.refused is None:
                pending.answer(_with_leased(inserted, leased), "committed")
        for pending, error in refused:
            _not_inserted(state, pending, error)
        state.send_replies()
        hit("keeper.after_reply")

    work.afterwards(effect)


def _not_inserted(state: State, pending: PendingGroup, error: JobsupError) -> None:
    """A group was refused: where its queue lets callers wait for room, it waits as long as its caller does.

    Where no daemon leases jobs, nothing makes room.
    """
    if isinstance(pending.group, NewFlow):
        pending.refuse(error)
        return
    discipline = state.discipline(pending.group.queue)
    fits = discipline.max_size is not None and len(pending.group.jobs) <= discipline.max_size
    waits = isinstance(error, QueueFull) and discipline.when_full == WAIT and fits and state.leasing
    if waits and pending.until_ms is not None and len(state.unfit) < UNFIT_MAX:
        state.unfit.append((pending, error))
    else:
        pending.refuse(error)


def _retry_unfit(work: Work) -> None:
    """Groups that wait for room in their queue try again once there may be some."""
    state = work.state
    if not (state.unfit and state.room_made):
        return
    state.room_made = False
    waiting, state.unfit = state.unfit, []
    for pending, _ in reversed(waiting):
        try:
            known_queue(state.spec, pending.group.queue)
        except UnknownQueue as error:  # a reload has taken it out of the file
            pending.refuse(error)
        else:
            state.intake.appendleft(pending)


def refuse_unfit(state: State, boot_ms: int) -> None:
    """Callers that wait for room in a queue are told when their time is over."""
    over = [(pending, error) for pending, error in state.unfit if (pending.until_ms or 0) <= boot_ms]
    if over:
        state.unfit = [each for each in state.unfit if each not in over]
        for pending, error in over:
            pending.refuse(error)


def _with_leased(inserted: Inserted, leased: set[int]) -> Inserted:
    """A job that a worker had at once is running by now."""
    if inserted.repeated or leased.isdisjoint(inserted.ids):
        return inserted
    states = [
        JobState.RUNNING if job_id in leased else state
        for job_id, state in zip(inserted.ids, inserted.states, strict=True)
    ]
    return inserted._replace(states=states)


def _reserve(work: Work) -> None:
    """Keep a block of ids that were committed as given out, so that a buffered reply needs no commit."""
    state = work.state
    if len(state.block) >= BLOCK_LOW:
        return
    block = work.tx.reserve(BLOCK_IDS)
    # What is left of the old block is given up: ids are never reused, and need not be dense.
    work.afterwards(lambda: setattr(state, "block", block))


def _buffer(work: Work) -> None:
    """Answer groups at once, while the buffer has room, and keep them for the next flush."""
    state = work.state
    limit = state.spec.intake.flush_max_jobs
    while state.intake and (state.buffered_jobs < limit or not state.buffer):
        if len(state.block) < len(state.intake[0].group.jobs):
            return
        _buffer_one(work, state.intake.popleft())


def _insert_bounded(work: Work) -> None:
    """Groups of which only the commit shows whether they go in are not answered before it."""
    state = work.state
    bounded: list[PendingGroup] = []
    others: deque[PendingGroup] = deque()
    for pending in state.intake:
        (bounded if _must_be_committed(state, pending.group) else others).append(pending)
    if bounded:
        state.intake = others
        _insert_groups(work, bounded)


def _must_be_committed(state: State, group: Group | NewFlow) -> bool:
    if isinstance(group, NewFlow):
        return True
    discipline = state.discipline(group.queue)
    return group.keyed or discipline.unique is not None or discipline.max_size is not None


def _buffer_one(work: Work, pending: PendingGroup) -> None:
    state, key = work.state, pending.group.key
    known = work.tx.known_request(key) if key else None
    if known is not None:
        pending.answer(known, "committed")  # what is known was committed before this pass, which may fail
        return
    earlier = next((held for held in state.buffer if held.group.key == key), None) if key else None
    if earlier is not None:
        held_ids = earlier.group.ids or ()
        repeated = Inserted(held_ids, [JobState.QUEUED] * len(held_ids), repeated=True)
        pending.answer(repeated, "buffered")
        return
    size = len(pending.group.jobs)
    ids, state.block = state.block[:size], state.block[size:]
    if not state.buffer:
        state.flush_at_ms = work.boot_ms + state.spec.intake.flush_interval_ms
    assert isinstance(pending.group, Group)
    state.buffer.append(pending._replace(group=pending.group._replace(ids=ids)))
    state.buffered_jobs += size
    states = [_state_of(job.due_at_ms, work.now_ms) for job in pending.group.jobs]
    inserted = Inserted(ids, states)
    # The reply needs no commit: this pass may fail, and the group still waits in the buffer for the next one.
    pending.answer(inserted, "buffered")


def _state_of(due_at_ms: int | None, now_ms: int) -> JobState:
    return JobState.SCHEDULED if due_at_ms is not None and due_at_ms > now_ms else JobState.QUEUED


def _flush_due(state: State, boot_ms: int) -> bool:
    due = state.flush_at_ms is not None and boot_ms >= state.flush_at_ms
    return due or state.buffered_jobs >= state.spec.intake.flush_max_jobs


def _flush(work: Work) -> None:
    state = work.state
    held, jobs = state.buffer, state.buffered_jobs
    state.buffer, state.buffered_jobs = [], 0
    hit("keeper.before_flush")

    def put_back() -> None:
        state.buffer = held + state.buffer
        state.buffered_jobs += jobs

    work.on_failure(put_back)
    work.inserted(work.tx.insert([pending.group for pending in held]))
    work.afterwards(lambda: setattr(state, "flush_at_ms", None))


def refuse_overdue(state: State, boot_ms: int, cause: str) -> None:
    """While the store cannot commit, callers wait up to their own time-out and are then told why."""
    for waiting in (state.intake, state.operations, state.lending.asked):
        for one in [one for one in waiting if one.until_ms is not None and one.until_ms <= boot_ms]:
            waiting.remove(one)  # type: ignore[arg-type]
            one.refuse(Busy(f"the database cannot be written: {cause}", hint="free the cause, then try again"))
