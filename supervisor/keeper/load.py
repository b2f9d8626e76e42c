"""What autoscaled pools have to do, measured for their foremen, which decide how many workers that takes.

It is told five times a second while jobs wait, once a second while workers are busy, and not while nothing happens.
Every report states a whole, so one that is lost, or a keeper that is new, harms nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.wire.control import PoolLoad

if TYPE_CHECKING:
    from supervisor.keeper.state import State

PRESSED_MS = 200
BUSY_MS = 1_000
NOTHING = PoolLoad(0, 0, 0.0, 0.0)


class _Meter:
    """One pool. `ready` are its jobs that wait for a lease, as of the last pass."""

    def __init__(self) -> None:
        self.ready = 0
        self.told: PoolLoad | None = None
        """What its foreman knows; None: nothing yet."""
        self.told_at_ms = 0
        self.due_ms: int | None = 0
        self.work_us = 0.0
        """Work that was done by the last report: of jobs that ended, and of those that ran then."""


class Loads:
    """The pools whose workers follow the load; all others cost nothing here."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._spec: object = None
        self._meters: dict[str, _Meter] = {}
        self.worked_us: dict[str, int] = {}
        """How long the ended jobs of each pool ran, together."""

    @property
    def next_ms(self) -> int | None:
        """When a report is due; None while nothing happens."""
        return min((meter.due_ms for meter in self._meters.values() if meter.due_ms is not None), default=None)

    def begin_anew(self, pool: str) -> None:
        """The pool's foreman is a new one."""
        if pool in self._meters:
            self._meters[pool] = _Meter()

    @property
    def pools(self) -> list[str]:
        """The pools whose backlog is asked for."""
        self._follow_spec()
        return list(self._meters)

    def passed(self, backlogs: Mapping[str, int], now_ms: int) -> None:
        """A pass is over that left so many jobs waiting, by pool."""
        self._follow_spec()
        for pool, meter in self._meters.items():
            meter.ready = backlogs.get(pool, 0)
            told = meter.told
            if told is None or told.backlog:
                continue
            if meter.ready or (told is NOTHING and any(slot.out for slot in self._state.slots_of(pool))):
                due_ms = max(now_ms, meter.told_at_ms + PRESSED_MS)
                meter.due_ms = due_ms if meter.due_ms is None else min(meter.due_ms, due_ms)

    def tell(self, now_ms: int) -> None:
        """Send every report that is due."""
        self._follow_spec()
        for pool, meter in self._meters.items():
            if meter.due_ms is not None and now_ms >= meter.due_ms:
                self._tell(pool, meter, now_ms)

    def _follow_spec(self) -> None:
        spec = self._state.spec
        if spec is not self._spec:
            self._spec = spec
            pools = [name for name, pool in spec.workplaces.items() if pool.autoscaled]
            self._meters = {name: self._meters.get(name) or _Meter() for name in pools}
            self.worked_us = {name: self.worked_us.get(name, 0) for name in pools}

    def _tell(self, pool: str, meter: _Meter, now_ms: int) -> None:
        link = self._state.links.get(pool)
        if link is None:
            meter.due_ms = None  # its foreman begins anew, and so does this
            return
        report = self._measure(pool, meter, now_ms)
        meter.told, meter.told_at_ms = report, now_ms
        if report is NOTHING:
            meter.due_ms = None
        else:
            meter.due_ms = now_ms + (PRESSED_MS if report.backlog else BUSY_MS)
        link.send(report)

    def _measure(self, pool: str, meter: _Meter, now_ms: int) -> PoolLoad:
        state = self._state
        slots = [slot for slot in state.slots_of(pool) if slot.out and slot.phase is not Phase.JUDGED]
        ages_us = [_age_us(slot, now_ms) for slot in slots]
        before_us, meter.work_us = meter.work_us, self.worked_us[pool] + float(sum(ages_us))
        if not (slots or meter.ready):
            return NOTHING
        passed_us = (now_ms - meter.told_at_ms) * 1000
        fresh = meter.told is None or meter.told is NOTHING or not passed_us
        work = float(len(slots)) if fresh else max(0.0, (meter.work_us - before_us) / passed_us)
        unbegun = sum(slot.unbegun for slot in slots)
        idle = sum(slot.idle for slot in state.slots_of(pool))
        return PoolLoad(meter.ready + unbegun, len(slots), _mean_ms(state.mean_us.get(pool), ages_us), work, idle)


def _age_us(slot: KeeperSlot, now_ms: int) -> int:
    """About how long the job that the worker runs has been running."""
    return max(0, now_ms - slot.quiet_since_ms) * 1000


def _mean_ms(known_us: float | None, ages_us: list[int]) -> float:
    """How long a job takes: as those did that ended, but not less than those that run already did.

    While none has ended, the oldest that runs tells the most.
    """
    if known_us is None:
        return max(ages_us, default=0) / 1000
    return max(known_us, sum(ages_us) / len(ages_us) if ages_us else 0.0) / 1000
