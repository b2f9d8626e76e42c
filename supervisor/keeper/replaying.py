"""Replays of dead letters: each a row, driven by steps that fit into a pass, so that none needs anybody's connection.

A step chooses, looks at what was released, or releases; all that it decides by is in rows, so that a new keeper goes
on where the old one was killed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from supervisor.errors import UnknownJob, WrongState
from supervisor.job import State as JobState
from supervisor.keeper.operations import DeadFilter, Refuse, Reply
from supervisor.keeper.scope import Scope, View, within
from supervisor.keeper.state import State
from supervisor.keeper.work import Work
from supervisor.policy import replay as policy
from supervisor.policy.replay import Pace, Seen
from supervisor.store.history import NewReplay, Replay
from supervisor.store.reader import Reader
from supervisor.store.sqlite.replaying import CHOSEN, RELEASED
from supervisor.store.sqlite.transaction import Transaction
from supervisor.wire import messages

STEP_JOBS = 100
"""Jobs that a step chooses or looks at."""

RELEASED_AT_ONCE = 25
"""Each takes a dozen statements: a pass must stay short."""

DROPPED_AT_ONCE = 500
OPEN_MAX = 16
"""Replays that may be under way: each takes a step in every pass that looks after them."""

AT_ONCE_MS, LOOK_MS = 20, 200
"""When to come back: where there is more to do, and where something is waited for."""


class Begin:
    """Store a replay; it begins with the next pass."""

    until_ms: int | None = None

    def __init__(self, state: State, new: NewReplay, reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.new = new
        self.reply = reply
        self.refuse = refuse

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:  # noqa: ARG002 - the interface of operations
        """Do it, unless there are too many."""
        if len(tx.open_replays()) >= OPEN_MAX:
            error = WrongState(f"{OPEN_MAX} replays are under way", hint="jobsctl dead replays lists them")
            return lambda: self.refuse(error) is None
        replay_id = tx.begin_replay(self.new)

        def effect() -> bool:
            self.state.archiving.replay_at_ms = 0
            self.reply({"replay": replay_id})
            return True

        return effect


class Stop:
    """End a replay; what is still to be released stays dead."""

    until_ms: int | None = None

    def __init__(self, state: State, replay_id: int, reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.replay_id = replay_id
        self.reply = reply
        self.refuse = refuse

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:  # noqa: ARG002 - the interface of operations
        """Do it, if it is not over."""
        found = tx.replay(self.replay_id)
        if found is None:
            missing = UnknownJob(f"there is no replay {self.replay_id}", hint="jobsctl dead replays lists them")
            return lambda: self.refuse(missing) is None
        if found.ended_at_ms is not None or found.state == "stopped":
            over = WrongState(f"replay {self.replay_id} is {found.state} already")
            return lambda: self.refuse(over) is None
        tx.set_replay(found._replace(state="stopped", reason="stopped by a client"))

        def effect() -> bool:
            self.state.archiving.replay_at_ms = 0
            self.reply({"replay": self.replay_id, "released": found.released})
            return True

        return effect


def asked(request: messages.DeadRetry) -> NewReplay:
    """The replay that a request asks for."""
    return NewReplay(
        msgspec.json.encode(request.filter),
        request.limit,
        request.pace_jobs,
        request.pace_ms,
        request.canary,
        request.stop_on_failure,
    )


def drive(work: Work, reader: Reader, cursors: dict[int, int]) -> int | None:
    """Take every open replay a step further; in how many milliseconds to come back, None if there is none.

    `cursors` remembers up to which released job each was looked at: a cache, which may be lost.
    """
    replays = work.tx.open_replays()
    again_ms = [_drive_one(work, reader, replay, cursors) for replay in replays]
    for gone in cursors.keys() - {replay.id for replay in replays}:
        del cursors[gone]
    return min(again_ms, default=None)


def _drive_one(work: Work, reader: Reader, replay: Replay, cursors: dict[int, int]) -> int:
    if replay.state == "stopped":
        return _wind_up(work, replay)
    if replay.state == "choosing":
        return _choose(work, reader, replay)
    looked = _look(work, replay, cursors)
    if looked.state == "stopped":
        _say(work, looked)
        work.tx.set_replay(looked)
        return AT_ONCE_MS
    released = _release(work, looked)
    if released != replay:
        work.tx.set_replay(released)
    more = released.released > looked.released and not released.pace_jobs
    return AT_ONCE_MS if more else LOOK_MS


def _wind_up(work: Work, replay: Replay) -> int:
    """Forget what a stopped replay had chosen."""
    for released in (CHOSEN, RELEASED):
        ids = work.tx.replayed_after(replay.id, released, 0, DROPPED_AT_ONCE)
        if ids:
            work.tx.drop_replayed(replay.id, released, ids)
            return AT_ONCE_MS
    work.tx.set_replay(replay._replace(ended_at_ms=work.now_ms))
    return LOOK_MS


def _choose(work: Work, reader: Reader, replay: Replay) -> int:
    """Fix which jobs are meant: those that are dead when this is asked for, and pass the filter."""
    chosen, scope = within(msgspec.json.decode(replay.chosen, type=messages.Filter))
    meant = DeadFilter(chosen, reader)
    page = [job_id for job_id in meant.page(work.tx, replay.after_id, STEP_JOBS) if job_id < replay.end_id]
    left = (replay.jobs_max or len(page) + replay.matched) - replay.matched
    found = list(meant.meant(cast("Transaction", View(work.tx, Scope(scope, reader))), page))[:left]
    work.tx.choose(replay.id, found)
    replay = replay._replace(matched=replay.matched + len(found), after_id=page[-1] if page else replay.after_id)
    if not page or replay.matched == replay.jobs_max:
        replay = replay._replace(state="canary" if replay.canary else "running")
    work.tx.set_replay(replay)
    return AT_ONCE_MS


def _look(work: Work, replay: Replay, cursors: dict[int, int]) -> Replay:
    """Count what has ended since; stop at the first failure, if that was asked for."""
    ids = work.tx.replayed_after(replay.id, RELEASED, cursors.get(replay.id, 0), STEP_JOBS)
    cursors[replay.id] = ids[-1] if len(ids) == STEP_JOBS else 0
    standing = work.tx.standing(ids)
    found = {job_id: policy.seen(one.state, one.history) for job_id, one in standing.items()}
    gone = [job_id for job_id in ids if job_id not in found]
    ended = [job_id for job_id, what in found.items() if what in (Seen.COMPLETED, Seen.FAILED)]
    if ended or gone:
        work.tx.drop_replayed(replay.id, RELEASED, ended + gone)
    completed = sum(what is Seen.COMPLETED for what in found.values())
    failed = sum(what is Seen.FAILED for what in found.values())
    replay = replay._replace(
        completed=replay.completed + completed, failed=replay.failed + failed, gone=replay.gone + len(gone)
    )
    bad = next((job_id for job_id, what in found.items() if what in (Seen.FAILED, Seen.FAILING)), None)
    if bad is not None and (replay.state == "canary" or replay.stop_on_failure):
        which = "canary job" if replay.state == "canary" else "job"
        return replay._replace(state="stopped", reason=f"{which} {bad} {_said(found[bad], standing[bad].state)}")
    return replay


def _said(what: Seen, state: JobState) -> str:
    return f"is {state} again" if what is Seen.FAILED else "failed an attempt"


def _release(work: Work, replay: Replay) -> Replay:
    """Let the next jobs run, as far as canary and pace allow; the replay is over when none is left."""
    pending = replay.released - replay.completed - replay.failed - replay.gone
    canary = min(replay.canary or 0, replay.matched) if replay.state == "canary" else None
    if canary is not None and replay.released >= canary and not pending:
        replay, canary = replay._replace(state="running"), None
    pace = Pace(replay.pace_jobs, replay.pace_ms) if replay.pace_jobs and replay.pace_ms else None
    room = min(policy.room(canary, replay.released, pending), RELEASED_AT_ONCE)
    ids = work.tx.replayed_after(replay.id, CHOSEN, 0, room) if room else []
    times, next_us = policy.due_times(pace, replay.next_us, work.now_ms, len(ids))
    released = [work.tx.release_replayed(replay.id, job_id, at_ms) for job_id, at_ms in zip(ids, times, strict=False)]
    replay = replay._replace(
        next_us=next_us,
        released=replay.released + sum(released),
        matched=replay.matched - released.count(False),
    )
    if replay.state == "running" and room and not ids and not pending:
        replay = replay._replace(state="finished", ended_at_ms=work.now_ms)
        _say(work, replay)
    return replay


def _say(work: Work, replay: Replay) -> None:
    facts: dict[str, Any] = {
        "id": replay.id, "state": replay.state, "released": replay.released, "matched": replay.matched,
        "completed": replay.completed, "failed": replay.failed, "reason": replay.reason or "all are out",
    }  # fmt: skip
    work.afterwards(lambda: work.state.log.emit("replay.ended", **facts))
