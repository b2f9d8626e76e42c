"""Replays of dead letters as rows: what was asked for, how far it is, which jobs are chosen and which are under way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.errors import NotUnique
from supervisor.job import Event, State, after
from supervisor.policy.rank import rank
from supervisor.store.driver import plain_text
from supervisor.store.history import NewReplay, Replay
from supervisor.store.protocol import TRAILED, Held
from supervisor.store.sqlite.base import ZERO, encode, text
from supervisor.store.sqlite.operating import Operating
from supervisor.store.sqlite.statements import SQL

CHOSEN, RELEASED = 0, 1
"""What `replayed.released` says of a job: it is still to be released, or has been and has not ended."""


class Replaying(Operating):
    """The verbs of replays."""

    def begin_replay(self, new: NewReplay) -> int:
        """Store a replay of what is dead now; returns its id."""
        row = (
            self._now_ms, text(new.chosen), new.jobs_max, new.pace_jobs, new.pace_ms, new.canary,
            int(new.stop_on_failure), self._cache.sequences["next_id"],
        )  # fmt: skip
        return int(self._db.execute(SQL.replay_put, row).fetchone()[0])

    def open_replays(self) -> list[Replay]:
        """Replays that are not over."""
        return [replay_of(row) for row in self._db.execute(SQL.replay_open).fetchall()]

    def replay(self, replay_id: int) -> Replay | None:
        """A replay; None if there is none of that id."""
        row = self._db.execute(SQL.replay_get, (replay_id,)).fetchone()
        return replay_of(row) if row else None

    def set_replay(self, replay: Replay) -> None:
        """Store how far a replay is."""
        self._db.execute(
            SQL.replay_set,
            (replay.id, replay.state, replay.reason, replay.after_id, replay.next_us, replay.matched, replay.released,
             replay.completed, replay.failed, replay.gone, replay.ended_at_ms),
        )  # fmt: skip

    def choose(self, replay_id: int, ids: Sequence[int]) -> None:
        """Remember that a replay means these dead jobs."""
        self._db.executemany(SQL.replayed_put, [(replay_id, CHOSEN, job_id) for job_id in ids])

    def replayed_after(self, replay_id: int, released: int, job_id: int, jobs_max: int) -> list[int]:
        """Jobs of a replay in the order of their ids: `CHOSEN` ones, or those that are `RELEASED`."""
        return [row[0] for row in self._db.execute(SQL.replayed_page, (replay_id, released, job_id, jobs_max))]

    def drop_replayed(self, replay_id: int, released: int, ids: Sequence[int]) -> None:
        """Forget jobs of a replay."""
        self._db.execute(SQL.replayed_drop, (replay_id, released, encode(ids).decode()))

    def release_replayed(self, replay_id: int, job_id: int, due_at_ms: int) -> bool:
        """Make a chosen job run again, now or when it is due; False if it is not dead any more, or not unique."""
        self.drop_replayed(replay_id, CHOSEN, [job_id])
        standing = self.standing([job_id]).get(job_id)
        if standing is None or standing.state is not State.DEAD:
            return False
        try:
            self.revive_at(job_id, due_at_ms)
        except NotUnique:
            return False
        self._db.execute(SQL.replayed_put, (replay_id, RELEASED, job_id))
        return True

    def revive_at(self, job_id: int, due_at_ms: int) -> None:
        """Schedule a dead job anew, with fresh budgets; due in the past is due now.

        Raises:
            UnknownJob: there is none of that id.
            IllegalTransition: it is not dead; nothing was changed.
            NotUnique: another job that counts as the same is in its way; nothing was changed.
        """
        row, state = self._place(job_id)
        after(state, Event.REVIVE_LATER)
        if waits := self._open_edges_into(job_id):
            self._revive_blocked(row, waits)
            return
        self._compete(row)
        self._reopen([job_id])
        self._drop_outcomes([job_id])
        queue = self._cache.queues[row.queue.decode()]
        place = rank(queue.discipline.order, row.priority, self._sequence(1))
        self._waits_again(queue, job_id)
        self._put_trail(job_id, ZERO, Held(*place, TRAILED, 1), due_at_ms, None, solo=False)
        self._db.execute(SQL.cancel_withdraw, (job_id,))
        self._db.execute(SQL.insert_scheduled, (due_at_ms, job_id))
        self._note_due(due_at_ms)
        self._count(queue, state, -1)
        self._count(queue, State.SCHEDULED, 1)

    def forget_replays(self, before_ms: int, rows_max: int) -> int:
        """Forget replays that ended before this time; returns how many."""
        return int(self._db.execute(SQL.replay_forget, (before_ms, rows_max)).rowcount)


def replay_of(row: Sequence[Any]) -> Replay:
    """A row of the table as a value."""
    found = Replay._make(row)
    return found._replace(
        chosen=plain_text(found.chosen).encode(),
        state=plain_text(found.state),
        stop_on_failure=bool(found.stop_on_failure),
        reason=plain_text(found.reason),
    )
