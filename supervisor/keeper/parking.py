"""Who waits for code: jobs that no worker at hand could run are parked, and let go on when code has arrived that can.

Which tasks a worker can run only its code says: what no worker at hand knows is accepted, handed out once, and parked
by that (`Unknown`). What a foreman has published after its import decides when parked jobs are ready again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from supervisor.keeper.fitting import runs_one_thing
from supervisor.keeper.published import Tasks
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.policy.reason import Reason
from supervisor.policy.tasks import Known, Need, meets, need_of
from supervisor.store.protocol import Facts, Lease, LeasedJob

UNBLOCK_AT_ONCE = 128
SAID_MAX = 1_000
AGAIN_MS = 1_000
"""A worker of older code than was published parks what others know: that is looked at again, not at once."""


def adopt(work: Work) -> None:
    """What a new keeper finds."""
    work.state.tasks.learn(work.tx.tasks())


def park(work: Work, facts: Facts, token: int, need: Need) -> None:
    """A worker does not know a job's task: it waits until code arrives that does."""
    if not work.tx.park(token, facts.id, need):
        return
    state = work.state
    work.afterwards(partial(_say, state, facts, need))
    tables = state.tasks.tables(state.pools_of(facts.queue))
    if any(meets(table, need) for table in tables) and state.tasks.unblock_at_ms is None:
        at_ms = work.boot_ms + (AGAIN_MS if len(tables) == 1 else 0)
        work.afterwards(partial(setattr, state.tasks, "unblock_at_ms", at_ms))


def divert(work: Work, pool: str, lease: Lease) -> Lease:
    """A lease without what the code of this pool does not run, where its queue has other pools: that is theirs.

    Nothing of it is sent: the jobs wait as blocked ones until a worker of such a pool has room.
    """
    state = work.state
    if len(state.pools_of(lease.queue)) == 1:
        return lease
    table, kept = state.tasks.table(pool), []
    for job in lease.jobs:
        need = _need_of(job)
        if meets(table, need):
            kept.append(job)
            continue
        work.tx.park(lease.token, job.id, need)
        for other in state.pools_of(lease.queue):
            if meets(state.tasks.table(other), need):
                state.tasks.apart.setdefault(other, set()).add((lease.queue, need))
        state.wants_lease = True
    return lease if len(kept) == len(lease.jobs) else lease._replace(jobs=kept)


def take_apart(work: Work, pool: str, jobs_max: int) -> None:
    """Let what only some pools of a queue run come first, now that this one, which does, has room for so many.

    What its code ran once, and does not any more, is not let go on for it: it would be parked again at once, for ever.
    """
    tasks = work.state.tasks
    waiting = tasks.apart.get(pool)
    for queue, need in sorted(waiting) if waiting else ():
        if jobs_max <= 0:
            return
        found = work.tx.unblock(queue, need, jobs_max, first=True) if meets(tasks.table(pool), need) else 0
        if not found:
            work.afterwards(partial(tasks.apart[pool].discard, (queue, need)))
        jobs_max -= found


def _need_of(job: LeasedJob) -> Need:
    own = msgspec.json.decode(job.options) if job.options else {}
    return need_of(own.get("task"), own.get("version"))


def _say(state: State, facts: Facts, need: Need) -> None:
    """Log what jobs of a queue wait for, once for all of them."""
    said = state.tasks.said
    if (facts.queue, need) not in said and len(said) < SAID_MAX:
        said.add((facts.queue, need))
        why = Reason("no_code", {"queue": facts.queue, "task": need.task, "version": need.version}).sentence
        state.log.emit("job.parked", id=facts.id, queue=facts.queue, why=why)


def keep_up(work: Work) -> None:
    """Write what was published, and let go on what now can, some jobs in each pass."""
    tasks = work.state.tasks
    for name, known in list(tasks.news.items()):
        work.tx.publish(name, known)
        work.afterwards(partial(_written, tasks, name, known))
    if tasks.unblock_at_ms is None or work.boot_ms < tasks.unblock_at_ms:
        return
    left = UNBLOCK_AT_ONCE
    for queue, needs in work.tx.needs().items():
        pools = work.state.pools_of(queue)
        if len(pools) > 1:
            _note_apart(work, pools, queue, needs)
            continue
        table = tasks.table(work.state.pool_of(queue))
        anything = runs_one_thing(work.state, queue)
        for need in needs:
            if left and (anything or meets(table, need)):
                work.afterwards(partial(tasks.said.discard, (queue, need)))
                left -= work.tx.unblock(queue, need, left)
    if left == UNBLOCK_AT_ONCE:
        work.afterwards(partial(setattr, tasks, "unblock_at_ms", None))
    else:
        work.afterwards(partial(setattr, work.state, "wants_lease", True))


def _note_apart(work: Work, pools: Sequence[str], queue: str, needs: Sequence[Need]) -> None:
    """What of a queue with several pools waits for one of them: it is let go on when that has room."""
    tasks = work.state.tasks
    for pool in pools:
        met = {(queue, need) for need in needs if meets(tasks.table(pool), need)}
        if met:
            tasks.apart.setdefault(pool, set()).update(met)
            work.state.wants_lease = True


def _written(tasks: Tasks, pool: str, known: tuple[Known, ...]) -> None:
    if tasks.news.get(pool) is known:
        del tasks.news[pool]
