"""What time makes due about jobs that have been: replays, retention by count, statistics that are thinned.

Each chore does a page at a time and comes back soon while there is more; none walks over what is kept.
"""

from __future__ import annotations

from supervisor.config.spec import DAY_MS, Queue
from supervisor.job import State as JobState
from supervisor.keeper import replaying
from supervisor.keeper.archive_times import Archiving
from supervisor.keeper.work import Work
from supervisor.policy.retention import CountKeep, excess
from supervisor.store.reader import Reader

AGAIN_MS = 20
TRIM_EVERY_MS = 1_000
UNLIMITED_MS = 30_000
"""How often to look for a limit where there was none: a reload may have brought one."""

TRIM_JOBS = 500
ANEW_MS = 10 * 60_000
"""How often trimming begins with the oldest job again: those that ended late lie behind it."""

THIN_EVERY_MS = 60_000
THIN_AFTER_MS = 2 * DAY_MS
HOURS_AT_ONCE = 4
FORGET_ROWS = 200
REPLAYS_KEPT_MS = 90 * DAY_MS
LETTERS_AT_ONCE = 50
NEVER_MS = 1 << 62


def look_after(work: Work) -> None:
    """Do what is due. While nothing is leased (a one-shot keeper, a daemon that stops) it waits for another keeper."""
    chores = work.state.archiving
    if work.boot_ms < chores.next_ms():
        return
    if not work.state.leasing:
        work.afterwards(lambda: _put_off(chores, work.boot_ms + TRIM_EVERY_MS))
        return
    if work.boot_ms >= chores.replay_at_ms:
        _replay(work, chores)
    if work.boot_ms >= chores.trim_at_ms:
        _trim(work, chores)
    if work.boot_ms >= chores.thin_at_ms:
        _thin(work, chores)
    if work.boot_ms >= chores.letters_at_ms:
        at_ms = work.boot_ms + AGAIN_MS if work.tx.gather_letters(LETTERS_AT_ONCE) else NEVER_MS
        work.afterwards(lambda: setattr(chores, "letters_at_ms", at_ms))


def _put_off(chores: Archiving, at_ms: int) -> None:
    for name in ("replay_at_ms", "trim_at_ms", "thin_at_ms", "letters_at_ms"):
        setattr(chores, name, max(getattr(chores, name), at_ms))


def _replay(work: Work, chores: Archiving) -> None:
    reader = Reader(work.state.store.connection, work.state.spec.queue)
    again_ms = replaying.drive(work, reader, chores.looked_at)
    at_ms = NEVER_MS if again_ms is None else work.boot_ms + again_ms
    work.on_failure(chores.looked_at.clear)
    work.afterwards(lambda: setattr(chores, "replay_at_ms", at_ms))


def _trim(work: Work, chores: Archiving) -> None:
    """Delete the oldest final jobs of each queue that has more of a state than it keeps."""
    if work.boot_ms >= chores.anew_at_ms:
        chores.trimmed_to.clear()
        chores.anew_at_ms = work.boot_ms + ANEW_MS
    limited = {table: limits for table, queue in work.state.spec.queues.items() if (limits := _counts_kept(queue))}
    over = {
        (name, state): excess(work.tx.kept(name, state), jobs_max)
        for table, limits in limited.items()
        for name in work.tx.queues_of(table)
        for state, jobs_max in limits
    }
    removed = sum(_trim_page(work, chores, which, jobs) for which, jobs in over.items() if jobs)
    work.on_failure(chores.trimmed_to.clear)
    goes_on = removed or any(
        chores.trimmed_to.get(which) for which, jobs in over.items() if jobs
    )  # or steps alone are left
    rest_ms = AGAIN_MS if goes_on else TRIM_EVERY_MS if limited else UNLIMITED_MS
    work.afterwards(lambda: setattr(chores, "trim_at_ms", work.boot_ms + rest_ms))
    if removed:
        work.afterwards(lambda: work.state.log.emit("keeper.pruned", count=removed))


def _counts_kept(queue: Queue) -> list[tuple[JobState, int]]:
    """The final states of which a queue does not keep any number."""
    kept = queue.retention
    return CountKeep(kept.completed_max, kept.cancelled_max, kept.dead_max).limits()


def _trim_page(work: Work, chores: Archiving, which: tuple[str, JobState], over: int) -> int:
    """Delete up to `over` jobs of a queue in a state from the next page of them; returns how many."""
    name, state = which
    page = work.tx.final_after(name, chores.trimmed_to.get(which, 0), TRIM_JOBS)
    doomed = work.tx.without_steps([job_id for job_id, found in page if found is state])[:over]
    if doomed:
        work.tx.remove(doomed)
    whole = len(page) == TRIM_JOBS
    chores.trimmed_to[which] = doomed[-1] if len(doomed) == over else page[-1][0] if whole else 0
    return len(doomed)


def _thin(work: Work, chores: Archiving) -> None:
    """Make hours of old minutes, and forget what is older than statistics and replays are kept."""
    more = work.tx.thin_statistics(work.now_ms - THIN_AFTER_MS, HOURS_AT_ONCE)
    keep_ms = work.state.spec.stats.keep_ms
    if keep_ms is not None:
        more |= work.tx.forget_statistics(work.now_ms - keep_ms, FORGET_ROWS) >= FORGET_ROWS
    work.tx.forget_replays(work.now_ms - REPLAYS_KEPT_MS, FORGET_ROWS)
    rest_ms = AGAIN_MS if more else THIN_EVERY_MS
    work.afterwards(lambda: setattr(chores, "thin_at_ms", work.boot_ms + rest_ms))
