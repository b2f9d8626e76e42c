"""Who waits for code: jobs that no worker at hand could run are parked, and let go on when code has arrived that can.

Which tasks a worker can run only its code says: what no worker at hand knows is accepted, handed out once, and parked
by that (`Unknown`). What a foreman has published after its import decides when parked jobs are ready again.
"""

from __future__ import annotations

from functools import partial

from supervisor.keeper.fitting import runs_one_thing
from supervisor.keeper.published import Tasks
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.policy.reason import Reason
from supervisor.policy.tasks import Known, Need, meets
from supervisor.store.protocol import Facts

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
    if meets(state.tasks.table(state.pool_of(facts.queue)), need) and state.tasks.unblock_at_ms is None:
        work.afterwards(partial(setattr, state.tasks, "unblock_at_ms", work.boot_ms + AGAIN_MS))


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


def _written(tasks: Tasks, pool: str, known: tuple[Known, ...]) -> None:
    if tasks.news.get(pool) is known:
        del tasks.news[pool]
