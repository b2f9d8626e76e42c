"""What the rows say, kept between transactions: lanes, sequences, counts, open leases.

The store makes it anew from rows whenever another connection wrote, or a transaction failed.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

import msgspec
from msgspec.json import encode

from supervisor.store.history import Figures
from supervisor.store.protocol import Held, OpenLease
from supervisor.store.sqlite.statements import SQL


class Cache:
    """What the rows say, kept between transactions; never believed after another connection wrote."""

    def __init__(self, connection: Any) -> None:
        self.lanes: dict[str, int] = {}
        self.queues: dict[int, str] = {}
        self.paused: set[str] = set()
        self.leases: dict[int, OpenLease] = {}
        self.sequences: dict[str, int] = {}
        self.tally: Counter[tuple[int, str]] = Counter()
        self.figures: dict[tuple[str, int], Figures] = {}
        self.minute = 0
        self._load(connection)

    def _load(self, connection: Any) -> None:
        for lane, queue, paused in connection.execute(SQL.lanes):
            self.note_lane(lane, queue.decode())
            if paused:
                self.paused.add(queue.decode())
        self.sequences = {name.decode(): value for name, value in connection.execute(SQL.sequences)}
        for lane, state, jobs in connection.execute(SQL.tally_of_lanes):
            self.tally[lane, state.decode()] = jobs
        rows = connection.execute(SQL.lease_open).fetchall()
        for token, group in groupby(rows, key=lambda row: row[0]):
            jobs = list(group)
            decoded = [msgspec.json.decode(row[3]) for row in jobs]
            listed = encode([job[0] for job in decoded]).decode()
            ready = dict(connection.execute(SQL.ready_since, (listed,)).fetchall())
            held = {job[0]: Held(job[1], job[2], job[3], job[4], ready.get(job[0], 0)) for job in decoded}
            self.leases[token] = OpenLease(token, jobs[0][1], jobs[0][2], held)

    def note_lane(self, lane: int, queue: str) -> None:
        """Remember a lane by both its names."""
        self.lanes[queue] = lane
        self.queues[lane] = queue
