"""Jobs for consumers: who waits for some, and leases for them, with the same limits and order as those of workers.

Nothing here asks again by itself: a fetch that finds nothing waits in memory, and the pass that makes jobs ready
answers it. A consumer is watched by nobody, so what is lent has an end: the row says when, and a heap wakes the loop.
"""

from __future__ import annotations

import socket
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from supervisor.errors import JobsupError, UnknownQueue, WrongState
from supervisor.job import Failed
from supervisor.keeper import breaking, expiring
from supervisor.keeper.children import known_queue
from supervisor.keeper.fetches import NOTHING, Fetching
from supervisor.keeper.settling import Report, apply, give_back
from supervisor.keeper.work import LEASE_UNTIL_US, Work
from supervisor.observe.failpoint import hit
from supervisor.store.driver import plain_text
from supervisor.store.protocol import NO_SLOT, Lease, LeasedJob, Loan, Owner
from supervisor.store.reader import instant

if TYPE_CHECKING:
    from supervisor.config.spec import Spec
    from supervisor.keeper.state import State

LEASE_BYTES_MAX = 8 * 1024 * 1024
REPLY_BYTES_MAX = 15 * 1024 * 1024
"""What jobs may take in one reply; the rest of a frame is left to what is said beside."""
PREVIOUS_ERROR_MAX = 1_024
"""Characters of the last failure that a consumer is told. A worker's exception may say a megabyte: with it, a job whose
payload fits into a frame might fit into none."""


def take_back_undelivered(work: Work) -> None:
    """What a consumer was never told that it has is nobody's: it goes back to its place at once."""
    lending = work.state.lending
    tokens, lending.undelivered = lending.undelivered, []
    work.on_failure(lambda: lending.undelivered.extend(tokens))
    for token in tokens:
        lease = work.tx.open_leases().get(token)
        if lease is not None:
            give_back(work, token, list(lease.jobs))
            work.state.wants_lease = True
        work.afterwards(partial(lending.forget, token))


def lend_out(work: Work) -> None:
    """Answer fetches that are repeated, and lease what is ready to those who wait, the longest first.

    After the leases of workers, which begin with saying that nothing more is wanted. However late the pass is then, one
    lease is given: were it none, workers that always find something could leave consumers nothing for ever.
    """
    state = work.state
    _look_at_fresh(work)
    if not state.leasing:
        return
    for number, queue in enumerate(state.lending.queues()):
        if number and work.late(LEASE_UNTIL_US):
            state.wants_lease = True
            return
        _lend_queue(work, queue)
        state.lending.served(queue)


def _look_at_fresh(work: Work) -> None:
    lending = work.state.lending
    fresh = [fetch for fetch in lending.fresh if not fetch.idle]
    lending.fresh.clear()
    work.on_failure(lambda: lending.fresh.extendleft(reversed(fresh)))
    for fetch in fresh:
        if not _has_key(work, fetch):
            lending.wait(fetch)
            work.on_failure(partial(lending.leave, fetch))


def _has_key(work: Work, fetch: Fetching) -> bool:
    """Whether the key of a fetch decides about it: it has a lease, or somebody else's place in the line, or no right.

    So no two leases have one key, in whatever order a fetch and its repetition come.
    """
    key, lending = fetch.request.key, work.state.lending
    if key is None:
        return False
    token, earlier = work.tx.loan_by_key(key), lending.under(key)
    lease = work.tx.leased_jobs(token) if token is not None and token not in lending.ending else None
    queue = lease.queue if lease is not None else earlier and earlier.request.queue
    if queue is None:
        return False
    if queue != fetch.request.queue:
        work.afterwards(partial(fetch.turn_away, _of_another_queue()))
    elif lease is not None:
        _answer(work, fetch, lease, [_shown(work.state, lease, job) for job in lease.jobs], repeated=True)
    elif earlier is not None:
        work.on_failure(lending.follow(fetch, earlier))
        work.afterwards(partial(_leave_out_oldest, earlier))
    return True


def _of_another_queue() -> WrongState:
    return WrongState(
        "the key of this fetch is that of a fetch from another queue",
        hint="a key is for one fetch, and for that fetch said again",
    )


def _leave_out_oldest(fetch: Fetching) -> None:
    """However often a fetch is repeated, two are answered with what is lent: there may be much of it."""
    oldest, fetch.earlier = fetch.earlier, None
    if oldest is not None and not oldest.answered:
        oldest.tell(NOTHING)


def _lend_queue(work: Work, queue: str) -> None:
    """Lease to one after another, until nothing more may be had, or the pass has no time left."""
    state = work.state
    table = state.spec.queue(queue)
    while (fetch := state.lending.first(queue)) is not None:
        if table is None or not table.pull:
            _turn_away(work, fetch)
            continue
        if not work.tx.waiting(queue) or breaking.jobs_allowed(work, queue) == 0:
            return
        if not _lend(work, fetch):
            return
        if work.late(LEASE_UNTIL_US):
            state.wants_lease = True
            return


def _turn_away(work: Work, fetch: Fetching) -> None:
    """The configuration has changed under it."""
    _take_from_line(work, fetch)
    work.afterwards(partial(fetch.turn_away, _unfetchable(work.state.spec, fetch.request.queue)))


def _unfetchable(spec: Spec, queue: str) -> JobsupError:
    try:
        known_queue(spec, queue)
    except UnknownQueue as error:
        return error
    return not_pulled(queue)


def not_pulled(queue: str) -> WrongState:
    """Why jobs of a queue cannot be fetched."""
    return WrongState(f"queue {queue} has workers of its own", hint="pull = true lets consumers fetch its jobs instead")


def _take_from_line(work: Work, fetch: Fetching) -> None:
    lending = work.state.lending
    fetch.answered = True
    lending.leave(fetch)

    def put_back() -> None:
        fetch.answered = False
        lending.wait(fetch, first=True)

    work.on_failure(put_back)


def _lend(work: Work, fetch: Fetching) -> bool:
    """Lease to a consumer; False if there is nothing that could be leased now."""
    queue, tx = fetch.request.queue, work.tx
    allowed = breaking.jobs_allowed(work, queue)
    jobs_max = fetch.request.jobs_max if allowed is None else min(allowed, fetch.request.jobs_max)
    owner = tx.own(_owner_of(work, fetch))
    lease = tx.lease(queue, owner, jobs_max, LEASE_BYTES_MAX)
    if lease is None:
        work.state.wants_lease |= tx.gave_up
        if not any(each.owner == owner for each in tx.open_leases().values()):
            tx.disown(owner)
        return False
    lease_ms = fetch.request.lease_ms or work.state.queue(queue).timeout_ms
    loan = Loan(
        fetch.name, work.state.boot_id, work.boot_ms + lease_ms, lease_ms, work.now_ms + lease_ms, fetch.request.key
    )
    tx.lend(lease.token, loan)
    lease, shown = _fitting(work, expiring.without_late(work, lease))
    if shown:
        breaking.note_lease(work, lease)
        _take_from_line(work, fetch)
        _answer(work, fetch, lease, shown, repeated=False)
    return True


def _owner_of(work: Work, fetch: Fetching) -> Owner:
    """The owner that stands for a consumer: the same for all that one user does under one name in a scope."""
    host, peer = socket.gethostname(), fetch.connection.peer
    known = "\0".join((host, str(peer.uid), fetch.scope, fetch.name))
    incarnation = -1 - int.from_bytes(blake2b(known.encode(), digest_size=7).digest(), "big")
    return Owner(host, work.state.boot_id, work.state.epoch, NO_SLOT, incarnation, "", "", peer.pid, 0)


def _fitting(work: Work, lease: Lease) -> tuple[Lease, list[dict[str, Any]]]:
    """The jobs that fit into a reply, and as what their consumer gets them; one that never will fit is dead."""
    size, shown = 0, list[dict[str, Any]]()
    for job in lease.jobs:
        each = _shown(work.state, lease, job)
        size += _size(job, each)
        if size > REPLY_BYTES_MAX:
            break
        shown.append(each)
    kept, rest = lease.jobs[: len(shown)], lease.jobs[len(shown) :]
    if rest and not kept:
        _bury(work, lease.token, rest[0], size)
        rest = rest[1:]
    if rest:
        work.tx.release(lease.token, [job.id for job in rest])
    return lease._replace(jobs=kept), shown


def _size(job: LeasedJob, shown: dict[str, Any]) -> int:
    """How many bytes of a reply a job takes, or a few more; what may be large is not written out for that."""
    return len(job.payload) + len(msgspec.json.encode(shown | {"payload": None, "flow": None}))


def _bury(work: Work, token: int, job: LeasedJob, size: int) -> None:
    """Let a job be dead that no consumer can be told of."""
    text = f"the job and what it is told of its flow are {size:,} bytes, more than a reply may hold"
    failed = Failed(text, type="PayloadTooLarge", final=True)
    apply(work, work.tx.facts([job.id])[job.id], Report(job.id, token, work.now_ms, 0, failed))
    work.final.add(job.id)


def _answer(work: Work, fetch: Fetching, lease: Lease, jobs: list[dict[str, Any]], *, repeated: bool) -> None:
    """Tell the consumer what it has, once that is committed."""
    lending, loan = work.state.lending, work.tx.loans()[lease.token]
    shown = {
        "token": lease.token,
        "jobs": jobs,
        "lease_s": loan.lease_ms / 1000,
        "until_at": instant(loan.until_ms),
        "repeated": repeated,
    }

    def effect() -> None:
        lending.expect(lease.token, loan.until_boot_ms)
        hit("keeper.after_lend")
        lending.told(lease.token, fetch.tell(shown))

    work.afterwards(effect)


def _shown(state: State, lease: Lease, job: LeasedJob) -> dict[str, Any]:
    """A job as its consumer gets it."""
    own = msgspec.json.decode(job.options) if job.options else {}
    size = len(job.payload) if job.own_bytes is None else job.own_bytes
    story = job.payload[size:]
    told = msgspec.json.decode(story, type=dict[str, msgspec.Raw]) if story else {}
    error = plain_text(job.previous_error)
    return {
        "id": job.id,
        "queue": lease.queue,
        "token": lease.token,
        "payload": msgspec.Raw(job.payload[:size]),
        "attempt": job.attempt,
        "max_attempts": own.get("max_attempts", state.queue(lease.queue).max_attempts),
        "priority": job.priority,
        "key": job.key or None,
        "tags": own.get("tags", []),
        "enqueued_at": instant(job.enqueued_at_ms),
        "due_at": instant(job.due_at_ms),
        "deadline_at": instant(own.get("deadline_at_ms")),
        "previous_error": error and error[:PREVIOUS_ERROR_MAX],
        "flow": told.get("flow"),
    }
