"""What is asked of, and told about, jobs that have been: searches, replays, statistics, edits."""

from __future__ import annotations

from typing import NamedTuple

from supervisor.policy.counting import COUNTS
from supervisor.policy.tasks import Need

MINUTE_MS = 60_000
HOUR_MINUTES = 60


class Search(NamedTuple):
    """Which jobs are meant; every member that is not None must hold.

    `since_ms` and `until_ms` speak of the time at which a job was enqueued, or, with `finished`, reached its final
    state. `text` is looked for in the payload as it was sent and in the last error; `error_type` is the class of
    the last attempt's exception; `key` is what a job belongs to, "" for those without one; `task` is the name that
    it was enqueued with.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    finished: bool = False
    tag: str | None = None
    text: str | None = None
    error_type: str | None = None
    key: str | None = None
    task: str | None = None

    @property
    def empty(self) -> bool:
        """Whether it means every job."""
        return self._replace(finished=False) == Search()


class Edit(NamedTuple):
    """What is changed about a job; None leaves it as it is. `options` replaces the job's own options as a whole.

    `need`: what the job needs by those options, if that is another task or version than before.
    """

    payload: bytes | None
    priority: int
    options: bytes | None
    due_at_ms: int | None = None
    need: Need | None = None


class Replay(NamedTuple):
    """A replay of dead letters, as its row has it.

    `state` is `choosing`, `canary`, `running`, `finished` or `stopped`; it is over once `ended_at_ms` is set.
    """

    id: int
    created_at_ms: int
    chosen: bytes
    jobs_max: int | None
    pace_jobs: int | None
    pace_ms: int | None
    canary: int | None
    stop_on_failure: bool
    end_id: int
    state: str
    reason: str | None
    after_id: int
    next_us: int
    matched: int
    released: int
    completed: int
    failed: int
    gone: int
    """Jobs that were deleted before anybody could see how they ended."""
    ended_at_ms: int | None


class NewReplay(NamedTuple):
    """A replay to begin. `chosen` is the filter as JSON."""

    chosen: bytes
    jobs_max: int | None
    pace_jobs: int | None
    pace_ms: int | None
    canary: int | None
    stop_on_failure: bool


class Figures:
    """The statistics of one queue in one period; `counts` in the order of `COUNTS`, `run` and `wait` histograms."""

    __slots__ = ("counts", "run", "wait")

    def __init__(self, counts: list[int] | None = None, run: list[int] | None = None, wait: list[int] | None = None):
        self.counts = counts or [0] * len(COUNTS)
        self.run = run or []
        self.wait = wait or []
