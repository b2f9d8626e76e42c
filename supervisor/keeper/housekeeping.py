"""What time makes due: scheduled jobs, retention, forgotten request keys, checkpoints, and a look at the file."""

from __future__ import annotations

from supervisor.config.spec import Retention
from supervisor.errors import StoreError
from supervisor.keeper import callbacks
from supervisor.keeper.archive_times import Archiving
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.policy.retention import FOR_EVER, Keep, expired, shortest_ms, sweep_interval_ms
from supervisor.store.sqlite.store import WAL_LIMIT_BYTES

PROMOTE_JOBS = 500
PRUNE_JOBS = 500
RERANK_JOBS = 200
BURY_JOBS = 200
TIDY_ROWS = 500
TIDY_EVERY_MS = 30_000
REQUEST_KEPT_MS = 10 * 60 * 1000
REQUEST_ROWS = 2_000
REQUEST_EVERY_MS = 30_000
IDENTITY_EVERY_MS = 1_000
CHECKPOINT_BYTES = 4 * 1024 * 1024
IDLE_CHECKPOINT_MS = 5_000
CHECKPOINT_APART_MS = 200
"""A checkpoint that a reader holds up is not tried again at once."""
CHECKPOINT_RETRY_MS = 1_000
"""One that failed, as on a full disk, is not tried again before."""
RELAXED_SYNC_MS = 900
"""At durability "relaxed" commits are not synced; a checkpoint within a second syncs what was written."""
CLOCK_LOOK_MS = 60_000
"""A scheduled job is looked for at least this often."""
CLOCK_STEP_MS = 500
"""A wall clock that has moved so much further than the boot clock was set; slewing is a thousand times slower."""


class Chores:
    """When each chore is due, on the boot clock."""

    def __init__(self, now_ms: int) -> None:
        self.promote_at_ms = now_ms
        self.expire_at_ms = now_ms
        self.wake_at_ms = now_ms + CLOCK_LOOK_MS
        self.clock_step_ms = 0
        """By how much the wall clock was set since the store was told."""
        self.tidy_at_ms = now_ms
        self.prune_at_ms = now_ms + 1_000
        self.prune_after: int | None = None
        self.requests_at_ms = now_ms + REQUEST_EVERY_MS
        self.identity_at_ms = now_ms + IDENTITY_EVERY_MS
        self.checkpoint_at_ms = now_ms + IDLE_CHECKPOINT_MS
        self.not_before_ms = now_ms
        self.unsynced_since_ms: int | None = None
        self.stuck = False
        self.clock_offset_ms: int | None = None
        self.archiving = Archiving()
        self.prune_flows_at_ms = now_ms

    def next_ms(self, *, idle: bool) -> int:
        """When the loop must turn for a chore."""
        times = [
            self.promote_at_ms,
            self.wake_at_ms,
            self.expire_at_ms,
            self.tidy_at_ms,
            self.prune_at_ms,
            self.identity_at_ms,
            self.requests_at_ms,
            self.prune_flows_at_ms,
        ]
        times.append(self.archiving.next_ms())
        if self.unsynced_since_ms is not None:
            times.append(self.unsynced_since_ms + RELAXED_SYNC_MS)
        if idle:
            times.append(self.checkpoint_at_ms)
        return min(times)


def promote(work: Work, chores: Chores) -> None:
    """Make due jobs ready, and note when the next is due."""
    state = work.state
    if work.boot_ms < chores.promote_at_ms:
        return
    count = work.tx.promote(PROMOTE_JOBS)
    hit("keeper.promote")
    note_due(work, chores)
    if count:
        state.wants_lease = True


def wake(work: Work, chores: Chores) -> None:
    """Look again at what waited for a limit until now."""
    if chores.clock_step_ms:
        work.tx.clock_set(chores.clock_step_ms)
        work.afterwards(lambda: setattr(chores, "clock_step_ms", 0))
    work.tx.wake()
    if chores.wake_at_ms <= work.boot_ms:
        work.state.wants_lease = True


def back_at_ms(work: Work, due_ms: int | None) -> int:
    """When to be back for what is due on the wall clock, on the boot clock; soon enough to see that it was set."""
    return work.boot_ms + (CLOCK_LOOK_MS if due_ms is None else min(max(due_ms - work.now_ms, 0), CLOCK_LOOK_MS))


def note_naps(work: Work, chores: Chores) -> None:
    """Be back when the next of what waits for a limit is due; what has to wait is known when all is committed."""

    def effect() -> None:
        chores.wake_at_ms = back_at_ms(work, work.tx.asleep_until_ms)

    work.afterwards(effect)


def tidy_lanes(work: Work, chores: Chores) -> None:
    """A slice of what concerns lanes: new orders, keys that a dead job takes along, limits and keys that are empty."""
    more = work.tx.rerank(RERANK_JOBS)
    buried = work.tx.bury_doomed(BURY_JOBS)
    if buried:
        work.final.update(buried)
        callbacks.dead_unrun(work, buried, callbacks.DEAD_KEY)
    rest_ms = 0 if more or len(buried) == BURY_JOBS else TIDY_EVERY_MS
    if work.boot_ms >= chores.tidy_at_ms:
        work.tx.forget_buckets(TIDY_ROWS)
        work.tx.forget_unique(TIDY_ROWS)
        work.tx.forget_idle_lanes(TIDY_ROWS)
    if rest_ms == 0 or work.boot_ms >= chores.tidy_at_ms:
        work.afterwards(lambda: setattr(chores, "tidy_at_ms", work.boot_ms + rest_ms))


def watch_clock(state: State, chores: Chores, wall_ms: int, boot_ms: int) -> None:
    """Look for due jobs at once after the wall clock was set: they may be due now, or have to wait again."""
    offset_ms = wall_ms - boot_ms
    step_ms = offset_ms - chores.clock_offset_ms if chores.clock_offset_ms is not None else 0
    chores.clock_offset_ms = offset_ms
    if abs(step_ms) >= CLOCK_STEP_MS:
        chores.clock_step_ms += step_ms
        chores.promote_at_ms = chores.wake_at_ms = chores.expire_at_ms = boot_ms
        state.timetable.wake(boot_ms)
        state.log.emit("keeper.clock_set", seconds=step_ms / 1000)


def note_due(work: Work, chores: Chores) -> None:
    """Remember when the next scheduled job is due, in both clocks."""
    at_ms = back_at_ms(work, work.tx.next_due_ms())
    work.afterwards(lambda: setattr(chores, "promote_at_ms", at_ms))


def note_scheduled(work: Work, chores: Chores) -> None:
    """Something was scheduled in this pass: be back in time for it."""
    due_ms = work.tx.earliest_due_ms
    if due_ms is None:
        return
    at_ms = back_at_ms(work, due_ms)

    def effect() -> None:
        chores.promote_at_ms = min(chores.promote_at_ms, at_ms)

    work.afterwards(effect)


def chores_due(chores: Chores, boot_ms: int) -> bool:
    """Whether a chore needs a transaction now."""
    times = (chores.promote_at_ms, chores.wake_at_ms, chores.expire_at_ms, chores.tidy_at_ms, chores.prune_at_ms)
    return min(*times, chores.requests_at_ms, chores.archiving.next_ms()) <= boot_ms


def keep_of(state: State, queue: str) -> Keep:
    """How long final jobs of a queue are kept; jobs of a queue that left the file stay."""
    spec = state.spec.queue(queue)
    return FOR_EVER if spec is None else kept_as(spec.retention)


def kept_as(retention: Retention) -> Keep:
    """How long a configuration keeps what is final."""
    return Keep(retention.completed_ms, retention.cancelled_ms, retention.dead_ms)


def prune(work: Work, chores: Chores) -> None:
    """Delete the next page of jobs that are old enough; goes on where it was, also after a restart."""
    state = work.state
    if work.boot_ms < chores.prune_at_ms:
        return
    stored = work.tx.setting("prune_after")
    after = stored if chores.prune_after is None else chores.prune_after
    keeps = [keep_of(state, queue) for queue in state.spec.queues]
    shortest = shortest_ms(keeps)
    page, cursor = work.tx.finished_after(after, PRUNE_JOBS, 0 if shortest is None else work.now_ms - shortest)
    old = [job.id for job in page if expired(keep_of(state, job.queue), job.state, job.finished_at_ms, work.now_ms)]
    removed = work.tx.remove(old) if old else 0
    hit("keeper.prune")
    if removed or (stored and not cursor):
        # A page that removed nothing is not worth a synced commit; where it stood is remembered here.
        work.tx.set_setting("prune_after", cursor)
    rest_ms = sweep_interval_ms(keeps) or 3_600_000

    def effect() -> None:
        chores.prune_after = cursor
        chores.prune_at_ms = work.boot_ms + (20 if cursor else rest_ms)
        if removed:
            state.log.emit("keeper.pruned", count=removed)

    work.afterwards(effect)


def forget_requests(work: Work, chores: Chores) -> None:
    """Forget the keys of groups that are older than any resend."""
    if work.boot_ms < chores.requests_at_ms:
        return
    forgotten = work.tx.forget_requests(work.now_ms - REQUEST_KEPT_MS, REQUEST_ROWS)
    rest_ms = 20 if forgotten >= REQUEST_ROWS else REQUEST_EVERY_MS
    work.afterwards(lambda: setattr(chores, "requests_at_ms", work.boot_ms + rest_ms))


def note_written(state: State, chores: Chores, boot_ms: int) -> None:
    """Something was committed; at durability "relaxed" it is not synced yet."""
    if state.spec.daemon.durability == "relaxed" and chores.unsynced_since_ms is None:
        chores.unsynced_since_ms = boot_ms


def checkpoint(state: State, chores: Chores, boot_ms: int, *, idle: bool) -> None:
    """Move the WAL into the file: a little when it has grown, all of it when it is too large or nothing happens.

    One that fails hurts nobody: commits go on as long as the WAL has room, and it is tried again.
    """
    mode = _checkpoint_mode(state, chores, boot_ms, idle=idle)
    if mode is None:
        return
    chores.checkpoint_at_ms = boot_ms + IDLE_CHECKPOINT_MS
    chores.not_before_ms = boot_ms + (CHECKPOINT_APART_MS if state.failure is None else CHECKPOINT_RETRY_MS)
    try:
        pages, _ = state.store.checkpoint(mode)
    except StoreError as error:
        _checkpoint_failed(state, chores, boot_ms, str(error))
        return
    chores.stuck = False
    chores.unsynced_since_ms = None
    state.log.emit("keeper.checkpoint", pages=pages, mode=mode)


def _checkpoint_failed(state: State, chores: Chores, boot_ms: int, error: str) -> None:
    chores.not_before_ms = boot_ms + CHECKPOINT_RETRY_MS
    if chores.unsynced_since_ms is not None:
        chores.unsynced_since_ms = chores.not_before_ms - RELAXED_SYNC_MS
    if not chores.stuck:
        state.log.emit("keeper.checkpoint_failing", error=error)
    chores.stuck = True


def _checkpoint_mode(state: State, chores: Chores, boot_ms: int, *, idle: bool) -> str | None:
    if boot_ms < chores.not_before_ms:
        return None
    if state.failure is not None:
        # What it moves makes room in the WAL itself: outcomes may fit there on a disk that is full.
        return "PASSIVE"
    wal_bytes = state.store.wal_bytes()
    resting = idle and boot_ms >= chores.checkpoint_at_ms
    if resting:
        chores.checkpoint_at_ms = boot_ms + IDLE_CHECKPOINT_MS
    if wal_bytes > WAL_LIMIT_BYTES or (resting and wal_bytes):
        return "TRUNCATE"
    unsynced = chores.unsynced_since_ms is not None and boot_ms - chores.unsynced_since_ms >= RELAXED_SYNC_MS
    return "PASSIVE" if unsynced or wal_bytes > CHECKPOINT_BYTES else None
