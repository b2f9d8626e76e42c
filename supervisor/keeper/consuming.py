"""What consumers say of the jobs that they hold, and what becomes of a lease of which nothing is heard.

Every word names the token of a lease. One whose lease is over changes nothing, however late it comes: it is refused as
stale, and counted. What is decided about an outcome is decided where those of workers are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from supervisor.config.names import scope_of, short_name
from supervisor.errors import JobsupError, PayloadTooLarge, StaleLease, StoreError, UnknownJob
from supervisor.job import Done, Failed, Outcome, Snooze
from supervisor.job import State as JobState
from supervisor.keeper.allowance import budgets_of
from supervisor.keeper.children import THE_PARENTS, group_of, inner, joined
from supervisor.keeper.fetches import Asked
from supervisor.keeper.settling import Report, apply, give_back, write
from supervisor.keeper.work import SETTLE_UNTIL_US, Work
from supervisor.observe.failpoint import hit
from supervisor.policy import settle as policy
from supervisor.store.protocol import CARRIED, GRACED, HEARD, AttemptError, Facts, Group, Loan, OpenLease
from supervisor.store.reader import instant
from supervisor.unix.clock import UNKNOWN_BOOT
from supervisor.wire import messages

if TYPE_CHECKING:
    from supervisor.keeper.state import State

GRACE_MS = 10_000
"""A new keeper ends no loan before this: while there was none, nobody could be heard. Once for each time that a
consumer is heard: keepers that die one after the other do not keep a job from others for ever."""

RAN_OUT = "the lease ran out: its consumer was not heard of in time"
LATE = "its consumer was not done with it by its deadline"
RESTARTED = "interrupted: the host was restarted, and its consumer was not heard of since"

END_AT_ONCE = 4
"""Jobs of a lease that ran out between two looks at the time: each costs about a quarter of a millisecond."""

Effect = Callable[[], None]


def adopt(work: Work) -> None:
    """Take up the loans that the rows know. What a boot clock said means nothing in another boot.

    There a lease is held for its whole time anew, and only once: its consumer may be a script that is run again.
    """
    for token, loan in list(work.tx.loans().items()):
        held = _adopted(work, loan)
        if held != loan:
            work.tx.lend(token, held)
        work.afterwards(partial(work.state.lending.adopt, token, held.until_boot_ms))


def _adopted(work: Work, loan: Loan) -> Loan:
    left_ms = loan.until_boot_ms - work.boot_ms
    if loan.boot == work.state.boot_id != UNKNOWN_BOOT:
        if left_ms >= GRACE_MS or loan.prolonged != HEARD:
            return loan
        return _until(work, loan._replace(prolonged=GRACED), GRACE_MS)
    held = _until(work, loan, 0 if loan.prolonged == CARRIED else loan.lease_ms)
    return held._replace(boot=work.state.boot_id, prolonged=CARRIED)


def _until(work: Work, loan: Loan, left_ms: int) -> Loan:
    """The loan, held for so long from now."""
    return loan._replace(until_boot_ms=work.boot_ms + left_ms, until_ms=work.now_ms + left_ms)


# -- what is heard -----------------------------------------------------------------------------------------------


def hear(work: Work) -> None:
    """Do what consumers have asked, each for itself, as far as the pass has time."""
    asked = work.state.lending.asked
    heard: list[Asked] = []
    work.on_failure(lambda: asked.extendleft(reversed(heard)))
    while asked and not (heard and work.late(SETTLE_UNTIL_US)):
        each = asked.popleft()
        heard.append(each)
        try:
            effect = DO[type(each.request)](work, each, each.request)
        except StoreError:
            raise
        except JobsupError as error:
            effect = partial(each.refuse, error)
        work.afterwards(effect)


def _extend(work: Work, asked: Asked, request: messages.Extend) -> Effect:
    lease, loan = _lease(work, asked, request.token)
    lease_ms = request.lease_ms or loan.lease_ms
    held = _until(work, loan._replace(lease_ms=lease_ms, prolonged=HEARD), lease_ms)
    work.tx.lend(lease.token, held)
    facts = work.tx.facts(lease.jobs)
    cancelled = [job_id for job_id in lease.jobs if facts[job_id].cancel_at_ms is not None]
    work.afterwards(partial(work.state.lending.expect, lease.token, held.until_boot_ms))
    shown = {"token": lease.token, "lease_s": lease_ms / 1000, "until_at": instant(held.until_ms),
             "jobs": list(lease.jobs), "cancelled": cancelled}  # fmt: skip
    return partial(asked.reply, shown)


def _ack(work: Work, asked: Asked, request: messages.Ack) -> Effect:
    if (queue := _completed_before(work, asked, request)) is not None:
        return partial(asked.reply, _said(request.job, queue, JobState.COMPLETED) | {"repeated": True})
    lease = _holding(work, asked, request.token, request.job)
    facts = work.tx.facts([request.job])[request.job]
    result = _result(work.state, lease.queue, bytes(request.result))
    groups = joined(_children(work, asked.scope, request), facts.options)
    refused = work.refused_children(groups)
    if refused is not None:
        raise refused
    state = _settle(work, lease, facts, Done(result), groups)
    return partial(asked.reply, _said(request.job, lease.queue, state) | {"repeated": False})


def _completed_before(work: Work, asked: Asked, request: messages.Ack) -> str | None:
    """The queue of a job that this very lease has completed: its answer was lost, and it is said again."""
    if work.tx.final_by(request.job) != (JobState.COMPLETED, request.token):
        return None
    queue = work.tx.standing([request.job])[request.job].queue
    return queue if scope_of(queue) == asked.scope else None


def _fail(work: Work, asked: Asked, request: messages.Fail) -> Effect:
    lease = _holding(work, asked, request.token, request.job)
    kinds = (request.type,) if request.type is not None else ()
    failed = Failed(
        request.message, type=request.type, traceback=request.traceback, final=request.final, classes=kinds,
        delay_ms=request.retry_in_ms,
    )  # fmt: skip
    state = _settle(work, lease, work.tx.facts([request.job])[request.job], failed)
    return partial(asked.reply, _said(request.job, lease.queue, state))


def _release(work: Work, asked: Asked, request: messages.Release) -> Effect:
    lease, _ = _lease(work, asked, request.token)
    ids = list(dict.fromkeys(request.ids)) if request.ids is not None else list(lease.jobs)
    for job_id in ids:
        _holding(work, asked, request.token, job_id)
    if request.delay_ms is None:
        give_back(work, lease.token, ids)
        _ended(work, lease, ids)
    else:
        for job_id, facts in work.tx.facts(ids).items():
            assert job_id in lease.jobs
            _settle(work, lease, facts, Snooze(request.delay_ms / 1000))
    return partial(asked.reply, {"token": lease.token, "done": ids})


DO: Mapping[type, Callable[[Work, Asked, Any], Effect]] = {
    messages.Extend: _extend,
    messages.Ack: _ack,
    messages.Fail: _fail,
    messages.Release: _release,
}
"""What is done about each; what is raised was raised before anything was changed."""


def _lease(work: Work, asked: Asked, token: int) -> tuple[OpenLease, Loan]:
    """The open lease of a consumer in the scope that it speaks in.

    Raises:
        StaleLease: it is over.
    """
    lease, loan = work.tx.open_leases().get(token), work.tx.loans().get(token)
    ending = token in work.state.lending.ending
    if lease is None or not lease.jobs or loan is None or ending or scope_of(lease.queue) != asked.scope:
        work.tx.count_stale(1)
        raise StaleLease(
            f"lease {token} is over: it ran out, or all of its jobs have ended",
            hint="its jobs may be with another consumer: drop what was done for them",
        )
    return lease, loan


def _holding(work: Work, asked: Asked, token: int, job_id: int) -> OpenLease:
    """The lease, if it holds this job.

    Raises:
        StaleLease: it does not, or not any more.
        UnknownJob: there is no such job.
    """
    lease = work.tx.open_leases().get(token)
    if lease is not None and token in work.tx.loans() and scope_of(lease.queue) == asked.scope and job_id in lease.jobs:
        return lease
    where = work.tx.standing([job_id]).get(job_id)
    if where is None or scope_of(where.queue) != asked.scope:
        raise UnknownJob(f"there is no job {job_id}", hint="ids are given out once; retention removes old jobs")
    work.stale(token, [job_id])
    raise StaleLease(
        f"lease {token} does not hold job {job_id} any more, which is {where.state}",
        hint="it ran out, or the job has ended under it; drop what was done for the job",
    )


def _said(job_id: int, queue: str, state: JobState) -> dict[str, Any]:
    return {"id": job_id, "queue": queue, "state": state.value}


def _result(state: State, queue: str, raw: bytes) -> bytes | None:
    """A result as it is stored.

    Raises:
        InvalidPayload, PayloadTooLarge: it cannot be.
    """
    bytes_max = state.queue(queue).max_result_bytes
    if len(raw) > bytes_max:
        raise PayloadTooLarge(
            f"the result is {len(raw):,} bytes; queue {short_name(queue)} takes at most {bytes_max:,} (max_result)",
            hint="store large data elsewhere and return where it is",
        )
    messages.check_json(raw, "the result")
    return None if raw.strip() == b"null" else raw


def _children(work: Work, scope: str, request: messages.Ack) -> list[Group]:
    """The jobs that come into being with a completion, one group each, so that their order is kept.

    Raises:
        UnknownQueue, InvalidPayload, PayloadTooLarge: one of them could not be stored; then none is.
    """
    groups = []
    for child in request.enqueue:
        flow = THE_PARENTS if child.joins else None
        groups.append(group_of(work.state, inner(scope, child.queue), [child], work.now_ms, flow=flow))
    return groups


# -- what it does ------------------------------------------------------------------------------------------------


def _settle(work: Work, lease: OpenLease, facts: Facts, outcome: Outcome, children: Any = ()) -> JobState:
    """Write what becomes of a job that a consumer holds; the state that it has then."""
    started_ms = min(lease.leased_at_ms, work.now_ms)
    run_us = (work.now_ms - started_ms) * 1000
    apply(work, facts, Report(facts.id, lease.token, started_ms, run_us, outcome, children))
    _ended(work, lease, [facts.id])
    hit("keeper.consumer_heard")
    return work.tx.standing([facts.id])[facts.id].state


def _ended(work: Work, lease: OpenLease, ids: list[int]) -> None:
    """These jobs are no longer held: limits have room, whoever waits for them hears of it."""
    state, count, over = work.state, len(ids), not lease.jobs
    state.wants_lease = True
    work.final.update(ids)

    def effect() -> None:
        state.settled_jobs += count
        if over:
            state.lending.forget(lease.token)

    work.afterwards(effect)


# -- what is not heard -------------------------------------------------------------------------------------------


def end_over(work: Work) -> None:
    """Take back what is over, as far as the pass has time: a failure of each job, as a deadline is."""
    lending = work.state.lending
    ended: list[int] = []

    def undo() -> None:
        for token in ended:
            lending.expect(token, work.boot_ms)

    work.on_failure(undo)
    while (token := lending.over(work.boot_ms)) is not None and not (ended and work.late(SETTLE_UNTIL_US)):
        lease, loan = work.tx.open_leases().get(token), work.tx.loans().get(token)
        if lease is not None and loan is not None and not _end(work, lease, loan):
            return
        ended.append(token)
        lending.forget(token)


def _end(work: Work, lease: OpenLease, loan: Loan) -> bool:
    """End the jobs of a loan, if it is over, some at least; False if some are left for the passes that follow."""
    if loan.until_boot_ms > work.boot_ms or not lease.jobs:  # it was extended, or all was said, in this very pass
        return True
    left, ended = list(lease.jobs), 0
    while ended < len(left) and not (ended and work.late(SETTLE_UNTIL_US)):
        page = left[ended : ended + END_AT_ONCE]
        for facts in work.tx.facts(page).values():
            _end_job(work, lease, loan, facts)
        ended += len(page)
    queue, consumer, said = lease.queue, loan.consumer, ", ".join(f"job {job_id}" for job_id in left[:ended])
    work.afterwards(
        lambda: work.state.log.emit(
            "keeper.lease_over", queue=queue, consumer=consumer, token=lease.token, jobs=said
        )
    )  # fmt: skip
    if ended < len(left):
        _stay_over(work, lease.token, loan)
    return ended == len(left)


def _end_job(work: Work, lease: OpenLease, loan: Loan, facts: Facts) -> None:
    if loan.prolonged == CARRIED and facts.cancel_at_ms is None:
        decision = policy.after_interruption(facts.history, budgets_of(work, facts))
        write(work, facts, lease.token, lease.leased_at_ms, decision, AttemptError("interrupted", RESTARTED))
        _ended(work, lease, [facts.id])
    else:
        _settle(work, lease, facts, Failed(RAN_OUT, kind="timeout"))


def _stay_over(work: Work, token: int, loan: Loan) -> None:
    """Nothing holds a loan any longer of which some jobs have ended: neither its consumer nor a keeper that is new."""
    if loan.prolonged == HEARD:
        work.tx.lend(token, loan._replace(prolonged=GRACED))
    work.afterwards(partial(work.state.lending.ending.add, token))


def cut(work: Work, facts: Facts, token: int) -> bool:
    """End a job at its deadline, if a consumer holds it, who is interrupted by nobody."""
    if token not in work.tx.loans():
        return False
    _settle(work, work.tx.open_leases()[token], facts, Failed(LATE, kind="timeout"))
    return True
