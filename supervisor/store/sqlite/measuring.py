"""Statistics by queue and minute: added up in memory within a transaction, and written with what they count.

A row is written as a whole, once a transaction. *Invariant:* the cache's figures are those of the rows plus what this
transaction counted; where it fails, the cache goes with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.policy import histogram
from supervisor.policy.counting import COUNTS
from supervisor.store.history import HOUR_MINUTES, MINUTE_MS, Figures
from supervisor.store.protocol import OpenLease
from supervisor.store.sqlite.base import Base, encode
from supervisor.store.sqlite.cache import Cache
from supervisor.store.sqlite.statements import SQL

ENQUEUED, STARTED, COMPLETED = (COUNTS.index(name) for name in ("enqueued", "started", "completed"))
INDEX = {name: number for number, name in enumerate(COUNTS)}
PAST_MINUTES = 24 * 60
"""A run that began earlier counts as begun so long ago: its minute is not part of an hour yet."""

READY_AT = 7
"""The column of trail_of that says since when a job that has a trail is ready."""

_decode_histogram = msgspec.json.Decoder(list[int]).decode


class Measuring(Base):
    """The verbs of statistics."""

    def __init__(self, connection: Any, cache: Cache, now_ms: int) -> None:
        super().__init__(connection, cache, now_ms)
        self._minute = now_ms // MINUTE_MS
        if cache.minute != self._minute:
            cache.minute = self._minute
            cache.figures.clear()
        self._measured: dict[tuple[str, int], Figures] = {}

    def _figures(self, queue: str, minute: int) -> Figures:
        key = (queue, minute)
        found = self._cache.figures.get(key)
        if found is None:
            row = self._db.execute(SQL.stat_get, key).fetchone()
            found = self._cache.figures[key] = figures_of(row) if row else Figures()
        self._measured[key] = found
        return found

    def _count_completed(
        self, lease: OpenLease, waits: list[int], runs: list[int], early: Sequence[tuple[int, int, int]]
    ) -> None:
        """Count completions, in milliseconds each; `early` ones, begun before this minute, as (start, end, ready)."""
        queue = lease.queue
        if runs:
            figures = self._figures(queue, self._minute)
            figures.counts[STARTED] += len(runs)
            figures.counts[COMPLETED] += len(runs)
            histogram.add(figures.wait, Counter(waits))
            histogram.add(figures.run, Counter(runs))
        for started, ended, ready in early:
            self._count_start(queue, started, ready)
            figures = self._figures(queue, self._within(ended))
            figures.counts[COMPLETED] += 1
            histogram.add(figures.run, {ended - started: 1})

    def _count_start(self, queue: str, started_ms: int, ready_ms: int) -> None:
        figures = self._figures(queue, self._within(started_ms))
        figures.counts[STARTED] += 1
        histogram.add(figures.wait, {started_ms - ready_ms: 1})

    def _within(self, at_ms: int) -> int:
        """The minute of an instant, if it is one that may be counted in: a worker may have said anything."""
        return min(max(at_ms // MINUTE_MS, self._minute - PAST_MINUTES), self._minute)

    def _count_enqueued(self, queue: str, jobs: int) -> None:
        self._figures(queue, self._minute).counts[ENQUEUED] += jobs

    def count_run(
        self, queue: str, token: int, job_id: int, started_ms: int | None, names: Sequence[str], *, measured: bool
    ) -> None:
        """Count the end of a run that does not complete, before it is written; nothing if no lease holds the job.

        `started_ms` is None where it was never started; `measured` says whether its duration counts.
        """
        lease = self._cache.leases.get(token)
        place = lease.jobs.get(job_id) if lease else None
        if place is None:
            return
        self._count_names(queue, names)
        if started_ms is not None:
            self._count_start(queue, started_ms, place.ready_at_ms)
            if measured:
                histogram.add(self._figures(queue, self._minute).run, {self._now_ms - started_ms: 1})

    def _count_names(self, queue: str, names: Sequence[str]) -> None:
        figures = self._figures(queue, self._minute)
        for name in names:
            figures.counts[INDEX[name]] += 1

    def flush(self) -> None:
        """Write the figures that changed, and all that is written once per transaction."""
        for (queue, minute), figures in self._measured.items():
            self._put_figures(queue, minute, 1, figures)
        super().flush()

    def _put_figures(self, queue: str, minute: int, span: int, figures: Figures) -> None:
        histograms = (encode(figures.run).decode(), encode(figures.wait).decode())
        self._db.execute(SQL.stat_put, (queue, minute, span, *figures.counts, *histograms))

    def thin_statistics(self, before_ms: int, hours_max: int) -> bool:
        """Make hours of minutes that lie before this time; whether there may be more."""
        for _ in range(hours_max):
            row = self._db.execute(SQL.stat_oldest, (before_ms // MINUTE_MS,)).fetchone()
            if row is None:
                return False
            queue, hour = row[0].decode(), row[1] // HOUR_MINUTES * HOUR_MINUTES
            whole = summed([figures_of(each) for each in self._db.execute(SQL.stat_hour, (queue, hour)).fetchall()])
            self._db.execute(SQL.stat_drop, (queue, hour))
            self._put_figures(queue, hour, HOUR_MINUTES, whole)
        return True

    def forget_statistics(self, before_ms: int, rows_max: int) -> int:
        """Delete the rows of minutes and hours before this time; returns how many."""
        return sum(
            int(self._db.execute(SQL.stat_forget, (span, before_ms // MINUTE_MS, rows_max)).rowcount)
            for span in (1, HOUR_MINUTES)
        )


def figures_of(row: Sequence[Any]) -> Figures:
    """The figures of a row: its counts, and its two histograms as JSON."""
    *counts, run, wait = row
    return Figures(list(counts), _decode_histogram(run), _decode_histogram(wait))


def summed(parts: Sequence[Figures]) -> Figures:
    """The figures of several periods as those of one."""
    counts = [sum(numbers) for numbers in zip(*(part.counts for part in parts), strict=True)]
    return Figures(counts, histogram.merged(p.run for p in parts), histogram.merged(p.wait for p in parts))
