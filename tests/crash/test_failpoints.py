"""Every failpoint that the program lists is struck in some case here, and nothing is lost by it.

A case arms points, lets a daemon do all that a daemon does until each of them has struck, starts it again whenever it
has ended, and then lets the checker look. Which process strikes where is written into a file by the point itself.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest

from supervisor.observe.failpoint import POINTS
from tests.support.campaign import FULL, Campaign
from tests.support.daemon import ROOT, environment
from tests.support.field import Field, attempt, payloads
from tests.support.outbox import Application
from tests.support.outbox import payloads as outbox_jobs
from tests.support.waiting import gone, until

SHORT_JOB = {"do": "spin", "us": 100}
MIX = payloads(
    (2, {"do": "keep"}),
    (20, {"do": "nothing"}),
    (5, {"do": "rest", "ms": 10}),
    (2, {"do": "big", "bytes": 60_000}),
    (2, {"do": "fail", "times": 1}),
    (2, {"do": "die", "how": "kill", "times": 1}),
    (2, {"do": "family", "queue": "q", "children": 2, "us": 500}),
)
STUCK = json.dumps([*[[SHORT_JOB] * 100] * 4, [*[SHORT_JOB] * 5, {"do": "rest", "ms": 60}, *[SHORT_JOB] * 80]])
STUBBORN = payloads((1, {"do": "stubborn", "ms": 20_000}))

ONCE = {"keeper.adopt", "migrate.step", "keeper.finish", "master.before_exit", "foreman.after_fork", "ladder.kill",
        "keeper.after_recall", "keeper.prune", "keeper.before_flush", "keeper.schedule"}  # fmt: skip
"""Points that a process reaches seldom: the first time must do."""

AT_THE_END = {"keeper.finish", "master.before_exit"}


def groups() -> list[tuple[str, ...]]:
    """In the full form each point by itself; in the short one eight at once, each of which strikes once."""
    if FULL:
        return [(point,) for point in POINTS]
    names = sorted(POINTS)
    return [tuple(names[first::4]) for first in range(4)]


class Armed(Field):
    """A daemon of all that a daemon can do, with failpoints armed."""

    def __init__(self, path: Path, points: dict[str, str], acknowledge: str) -> None:
        self.strikes = path / "failpoints"
        self.strikes.mkdir(parents=True)
        armed = ",".join(f"{point}={action}" for point, action in points.items())
        queues = {
            "q": {"workers": 2},
            "slow": {"workers": 1, "timeout": "200ms", "kill_grace": "100ms"},
            "quick": {"workers": 2, "retention": {"completed": "1s", "cancelled": "1s", "dead": "never"}},
            "rows": {"workers": 1},
            "lent": {"pull": True},
        }
        super().__init__(
            path, queues, env={"JOBSUP_FAILPOINTS": armed, "JOBSUP_FAILPOINT_DIR": str(self.strikes)},
            intake={"acknowledge": acknowledge, "flush_interval": "5ms"},
            outbox=[{"database": str(path / "app.db"), "interval": "100ms"}],
        )  # fmt: skip
        self.application = Application(path / "app.db")

    def begin(self) -> None:
        """Clients for all queues."""
        self.load("raw", "--payloads", MIX, "--group", 6, "--pause-ms", 8, "--delayed", 0.2)
        self.load("raw", "--queue", "slow", "--payloads", STUBBORN, "--group", 1, "--pause-ms", 400)
        self.load("raw", "--queue", "quick", "--groups", STUCK, "--pause-ms", 15)
        self.load("lent", "--queue", "lent", "--pause-ms", 20)
        arguments = (str(self.application.path), "seed", "1000000", "rows", "0.1")
        command = [sys.executable, "-m", "tests.support.outbox_app", *arguments]
        self._loads.append(subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, env=environment()))

    def __enter__(self) -> Self:
        self.start(ready=False)
        return self

    def struck(self) -> dict[str, int]:
        """Who struck so far: point -> pid."""
        path = self.strikes / "hits"
        lines = path.read_text().splitlines() if path.exists() else []
        return {line.split()[0]: int(line.split()[1]) for line in lines}

    def keep_running(self) -> None:
        """Start it again if it has ended."""
        if not self.running:
            if self._process:
                self.wait_end()
            until(lambda: not self.survivors(), 3, "the end of what the master left")
            self.start(ready=False)

    def up(self) -> None:
        """Have it run, and answer."""
        until(lambda: self.keep_running() or attempt(lambda: self._raw.ask("hello")), 30, "a daemon that answers")

    def stop_until_struck(self, points: set[str]) -> None:
        """Points at the very end: each stop reaches one of them."""
        for _ in range(2 * len(points)):
            self.up()
            self.signal(signal.SIGTERM)
            self.wait_end()
            if points <= self.struck().keys():
                return

    def until_struck(self, points: set[str], timeout: float) -> None:
        """Go on until all of these have struck."""

        def done() -> bool:
            self.keep_running()
            return points <= self.struck().keys()

        until(done, timeout, f"strikes at {sorted(points - self.struck().keys())}")


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("points", groups(), ids=lambda points: points[0] if len(points) == 1 else f"and {len(points)}")
def test_a_death_at_a_failpoint_loses_nothing(tmp_path: Path, campaign: Campaign, points: tuple[str, ...]) -> None:
    for number, rounds in enumerate(campaign.batches(short=1, full=10, batch=1)):
        acknowledge = "buffered" if "keeper.before_flush" in points else "committed"
        armed = {
            point: f"kill@{1 if point in ONCE else campaign.chance.randint(1, 3 if point[0] in 'mf' else 8)}"
            for point in points
        }
        with Armed(tmp_path / str(number), armed, acknowledge) as field:
            field.begin()
            field.until_struck(set(points) - AT_THE_END, 60)
            field.stop_until_struck(AT_THE_END & set(points))
            assert field.struck().keys() == set(points)
            gone(*field.struck().values())  # else the keeper of a master that is just being killed may still answer
            field.up()
            field.under_load(20)
            field.end_loads()
            until(lambda field=field: not field.application.rows(), 60, "an empty outbox")
            field.drain()
            assert field.stop() == 0
            assert field.survivors() == []
            assert problems(field) == []
        campaign.passed(rounds, strikes=len(points), acknowledged_jobs=len(field.acks.at_ns))


def problems(field: Field) -> list[str]:
    """What the checker finds; jobs of `quick` are deleted when they are old, buffered ones may be lost by a kill."""
    field.acks.read()
    ran = field.ledger.runs()
    pruned = {job_id for job_id, source in field.acks.source.items() if source == "raw-2" and job_id in ran}
    committed = {number for (number,) in field.application.ask("SELECT id FROM done")}
    left = {json.loads(payload)["number"] for (payload,) in field.application.ask("SELECT payload FROM jobsup_outbox")}
    made = [job["number"] for job in outbox_jobs(field.database, "rows")]
    wrong = [] if sorted(made) == sorted(committed - left) else ["outbox: committed rows and jobs do not agree"]
    return wrong + field.acks.check(field.database, field.ledger, may_miss=pruned | field.acks.buffered)


def test_every_failpoint_is_in_a_case() -> None:
    assert sorted(itertools.chain(*groups())) == sorted(POINTS)
    assert len(POINTS) >= 25


def test_the_program_lists_its_failpoints() -> None:
    command = [sys.executable, "-m", "supervisor.cli.jobsupd", "--failpoints"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment()).stdout
    assert [line.split()[0] for line in listed.splitlines()] == list(POINTS)


def test_a_daemon_does_not_start_with_an_unknown_failpoint(tmp_path: Path) -> None:
    field = Field(tmp_path, env={"JOBSUP_FAILPOINTS": "nowhere=kill"})
    field.start(ready=False)
    assert field.wait_end() != 0
    assert "'nowhere=kill' names no failpoint" in field.log
    assert not field.database.exists()


WRITE_ERRORS = ["store.before_commit=enospc@3", "store.before_commit=eio@5", "worker.before_spill=enospc@1"]


@pytest.mark.parametrize("armed", WRITE_ERRORS)
def test_a_write_that_fails_is_tried_again(tmp_path: Path, armed: str) -> None:
    """An error instead of a commit, or of a file in the slot: nothing is acknowledged by it, nothing is lost."""
    point, _, action = armed.partition("=")
    with Armed(tmp_path, {point: action}, "committed") as field:
        field.begin()
        field.until_struck({point}, 30)
        field.under_load(20)
        field.end_loads()
        field.drain()
        assert field.stop() == 0
        assert problems(field) == []


def test_control_a_point_that_is_never_reached_is_found(tmp_path: Path) -> None:
    """Planted: a point armed for its millionth time."""
    with Armed(tmp_path, {"keeper.promote": "kill@1000000"}, "committed") as field:
        field.begin()
        with pytest.raises(AssertionError, match="strikes at"):
            field.until_struck({"keeper.promote"}, 2)
    assert field.struck() == {}
