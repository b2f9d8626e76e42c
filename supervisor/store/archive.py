"""Reading what has been: searches, dead letters by error, replays, statistics, and whole jobs for an export.

As every reading, in short transactions: a search looks at a bounded number of jobs at a time and says where to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from supervisor.job import JOB_ID_MAX, State
from supervisor.policy.duration import show
from supervisor.policy.redact import redact
from supervisor.reading import read
from supervisor.store.driver import plain_text
from supervisor.store.history import Figures, Replay, Search
from supervisor.store.keyed import Row, lanes_of, page_before
from supervisor.store.reader import Reader, instant
from supervisor.store.search import matching
from supervisor.store.sqlite.measuring import figures_of
from supervisor.store.sqlite.replaying import replay_of
from supervisor.store.sqlite.statements import SQL

SCANNED = 2_000
"""Jobs that one look of a search goes through."""

LANES_READ_MAX = 200
"""A key that more queues have is looked for among all jobs."""

BODIES = 32
"""Whole jobs that are read at once: each may have megabytes."""

EVERYTHING = Search()
Told = Callable[[int], object]
"""Called with how many jobs were looked at so far."""


class Page(NamedTuple):
    """What a look found, the newest first, and behind which id the next look begins; None if there is no more."""

    ids: list[int]
    cursor: int | None
    looked_at: int


class Period(NamedTuple):
    """The statistics of a queue from `minute` (since 1970) on, for `span` minutes."""

    queue: str
    minute: int
    span: int
    figures: Figures


class Archive(Reader):
    """A reader that also searches."""

    def look(
        self, search: Search = EVERYTHING, *, queue: str | None = None, state: State | None = None,
        fingerprint: str | None = None, before_id: int | None = None, jobs_max: int = SCANNED,
    ) -> Page:  # fmt: skip
        """Look at the next `jobs_max` jobs that could be meant."""
        before = JOB_ID_MAX + 1 if before_id is None else before_id
        queue = queue and self._inner(queue)
        if fingerprint is None and (rows := self._of_key(search.key, queue, state, before, jobs_max)) is not None:
            return self._look_at(rows, search, state)
        if fingerprint is None:
            ids = self._ids(queue, state, before, jobs_max)
        else:
            asked = {"fingerprint": fingerprint, "queue": queue, "before": before, "limit": jobs_max}
            ids = [row[0] for row in self._db.execute(SQL.read_letters, asked)]
        found = matching(self._db, self._own(ids), search, self.hidden_of)
        last = len(ids) < jobs_max or (not found and self._all_before(ids, search))
        return Page(found, None if last else ids[-1], len(ids))

    def _of_key(
        self, key: str | None, queue: str | None, state: State | None, before: int, jobs_max: int
    ) -> list[Row] | None:  # fmt: skip
        """The next jobs of a key; None where they are looked for among others. Of what runs there is never much."""
        if not key or state is State.RUNNING:
            return None
        lanes = lanes_of(self._db, key, queue)
        own = [lane for lane in lanes or () if self._has(lane[1])]
        return page_before(self._db, own, before, jobs_max) if len(own) <= LANES_READ_MAX else None

    def _look_at(self, rows: list[Row], search: Search, state: State | None) -> Page:
        """What a search means of the jobs of a key. A page of them may be short, and is empty only at the end."""
        wanted = state if state is None or state.final else None
        ids = [job_id for job_id, ended in rows if state is None or ended is wanted]
        found = matching(self._db, ids, search, self.hidden_of)
        last = not rows or (not found and self._all_before([job_id for job_id, _ in rows], search))
        return Page(found, None if last else rows[-1][0], len(rows))

    def _own(self, ids: list[int]) -> list[int]:
        """Those of these that are of the scope."""
        if self._scope is None:
            return ids
        rows = self._db.execute(SQL.read_queues_of_jobs, (msgspec.json.encode(ids).decode(),))
        own = {job_id for job_id, queue in rows if self._has(plain_text(queue))}
        return [job_id for job_id in ids if job_id in own]

    def _all_before(self, ids: Sequence[int], search: Search) -> bool:
        """Whether a whole page was enqueued before the time that a search begins with: then older ones were, too."""
        if search.since_ms is None or search.finished:
            return False
        listed = msgspec.json.encode(list(ids)).decode()
        newest = self._db.execute(SQL.read_newest, (listed,)).fetchone()[0]
        return newest is not None and newest < search.since_ms

    def search(
        self, search: Search = EVERYTHING, *, queue: str | None = None, state: State | None = None,
        fingerprint: str | None = None, limit: int = 0, before_id: int | None = None, told: Told | None = None,
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """The jobs that are meant, without their payloads, newest first; `limit` 0 is all."""
        left, looked_at = limit or JOB_ID_MAX, 0
        cursor = before_id
        while True:
            size = min(SCANNED, left) if search.empty else SCANNED
            page = self.look(search, queue=queue, state=state, fingerprint=fingerprint, before_id=cursor, jobs_max=size)
            for shown in self._shown(page.ids):
                if state and shown["state"] != state.value:
                    continue  # it has gone on to another state between the two looks
                yield shown
                left -= 1
                if left <= 0:
                    return
            looked_at += page.looked_at
            if told:
                told(looked_at)
            if page.cursor is None:
                return
            cursor = page.cursor

    def bodies(self, ids: Sequence[int]) -> dict[int, Any]:
        """The payloads of jobs, as they are shown."""
        from sqlite_utils import Database  # 100 ms, which only an export can afford

        listed = msgspec.json.encode(list(ids)).decode()
        found = {}
        for row in Database(self._db, execute_plugins=False).query(SQL.read_bodies, (listed,)):
            spec = self.queue_of(self._named(plain_text(row["queue"])))
            found[row["id"]] = redact(read(row["payload"]), spec.redact if spec else ())
        return found

    def groups(self, queue: str | None = None) -> list[dict[str, Any]]:
        """Dead letters by error, the most frequent first; the cost does not grow with how many there are."""
        found = []
        for mark, name, jobs, kind, message, first_at, last_at, sample in self._db.execute(
            SQL.read_groups, {"queue": queue and self._inner(queue)}
        ):
            if not self._has(plain_text(name)):
                continue
            found.append(
                {
                    "fingerprint": plain_text(mark), "queue": self._named(plain_text(name)), "count": jobs,
                    "type": None if kind is None else plain_text(kind), "message": plain_text(message),
                    "first_at": instant(first_at), "last_at": instant(last_at), "sample_id": sample,
                }
            )  # fmt: skip
        return sorted(found, key=lambda group: (-group["count"], group["fingerprint"], group["queue"]))

    def fingerprints(self, ids: Sequence[int]) -> dict[int, tuple[str, str]]:
        """The fingerprint and the queue of each of these that is dead."""
        listed = msgspec.json.encode(list(ids)).decode()
        rows = self._db.execute(SQL.read_fingerprints, (listed,))
        return {job_id: (plain_text(mark), self._named(plain_text(queue))) for job_id, mark, queue in rows}

    def dead(
        self, *, ids: Sequence[int] = (), queue: str | None = None, kind: str | None = None, before: int | None = None,
        after: int | None = None, text: str | None = None, fingerprint: str | None = None, key: str | None = None,
        told: Told | None = None,
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """The dead letters that a filter means, newest first."""
        wanted = set(ids)
        for job in self.search(Search(key=key), queue=queue, state=State.DEAD, fingerprint=fingerprint, told=told):
            if wanted and job["id"] not in wanted:
                continue
            if self.dead_matches(job["id"], kind=kind, text=text, before_ms=before, after_ms=after):
                yield job

    def replays(self, limit: int) -> list[dict[str, Any]]:
        """Replays of dead letters, newest first."""
        rows = self._db.execute(
            SQL.read_replays, (JOB_ID_MAX if self._scope is not None else limit or JOB_ID_MAX,)
        ).fetchall()
        found = (_shown_replay(replay_of(row)) for row in rows)
        own = (self._of_scope(shown) for shown in found if self._has(shown["filter"].get("queue") or ""))
        return list(islice(own, limit or None))

    def _of_scope(self, replay: dict[str, Any]) -> dict[str, Any]:
        """A replay whose filter has the queue that was named, if one was; see keeper.scope.within."""
        queue = replay["filter"].get("queue")
        if self._scope is None or queue is None:
            return replay
        named = {} if queue.endswith("/*") else {"queue": self._named(queue)}
        others = {name: value for name, value in replay["filter"].items() if name != "queue"}
        return replay | {"filter": others | named}

    def periods(self, queue: str | None, since_ms: int, until_ms: int) -> Iterator[Period]:
        """Statistics, by queue and time."""
        asked = {"queue": queue and self._inner(queue), "since": since_ms // 60_000, "until": -(-until_ms // 60_000)}
        for name, minute, span, *figures in self._db.execute(SQL.read_stats, asked):
            if self._has(plain_text(name)):
                yield Period(self._named(plain_text(name)), minute, span, figures_of(figures))


def _shown_replay(replay: Replay) -> dict[str, Any]:
    chosen = msgspec.json.decode(replay.chosen)
    return {
        "id": replay.id,
        "state": replay.state,
        "filter": {name: value for name, value in chosen.items() if value is not None},
        "limit": replay.jobs_max,
        "pace": f"{replay.pace_jobs}/{show(replay.pace_ms)}" if replay.pace_jobs and replay.pace_ms else None,
        "canary": replay.canary,
        "stop_on_failure": replay.stop_on_failure,
        "matched": replay.matched,
        "released": replay.released,
        "completed": replay.completed,
        "failed": replay.failed,
        "pending": replay.released - replay.completed - replay.failed - replay.gone,
        "created_at": instant(replay.created_at_ms),
        "ended_at": instant(replay.ended_at_ms),
        "reason": replay.reason,
    }
