"""The outage breaker on a real keeper and real workers: what it charges, what it outlives, who closes it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.spec import Breaker, ErrorRule
from supervisor.keeper.breaking import FORGET_AT_ONCE
from tests.support.rig import Rig, a_queue
from tests.support.waiting import opened

FAILURES = 10
QUICK = Breaker(failures=FAILURES, cooldown_ms=60, max_cooldown_ms=120)
TOUCHY = Breaker(failures=1, cooldown_ms=60, max_cooldown_ms=120)
SLOW = Breaker(failures=2, cooldown_ms=3_600_000, max_cooldown_ms=3_600_000)


@contextmanager
def a_rig(path: Path, breaker: Breaker, **options: Any) -> Iterator[Rig]:
    given = {"handler": "outage:run", "breaker": breaker, "max_attempts": 50} | options
    with Rig(path, [a_queue(path, **given)], durability="relaxed") as rig:
        rig.start_keeper()
        rig.spawn_all()
        yield rig


@pytest.fixture
def down(tmp_path: Path) -> Path:
    """The file that means an outage."""
    mark = tmp_path / "down"
    mark.touch()
    return mark


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A FIFO at which runs wait."""
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    return fifo


def breaker(rig: Rig) -> dict[str, Any]:
    found: Any = rig.counts()["breaker"]
    assert isinstance(found, dict)
    return found


def opens(rig: Rig) -> None:
    """Wait until it is open, and no worker has a job of the queue any more."""
    rig.until(lambda: breaker(rig)["state"] == "open" and not rig.counts()["running"], 20, "an open breaker")


def charged(rig: Rig) -> int:
    """All failures that were charged to any job."""
    with closing(sqlite3.connect(f"file:{rig.database}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT coalesce(sum(failures), 0) FROM trail").fetchone()[0])


def runs(rig: Rig) -> int:
    """How many runs were begun."""
    return sum(line.startswith("S") for line in rig.ledger.path.read_text().splitlines())


def probes(rig: Rig) -> int:
    return rig.log.count("is the probe of the breaker")


def test_an_outage_charges_its_threshold_and_nothing_more(tmp_path: Path, down: Path) -> None:
    with a_rig(tmp_path, QUICK) as rig:
        rig.enqueue([{"down": str(down)}] * 1_000)
        rig.until(lambda: probes(rig) > 3, 30, "more than three probes")
        assert charged(rig) == FAILURES
        down.unlink()
        rig.until(rig.drained, 60, "all jobs to end")
        assert rig.counts()["completed"] == 1_000
        assert charged(rig) == FAILURES
        assert breaker(rig) == {
            "state": "closed", "reason": None, "failures": 0, "opened_at": None, "next_probe_at": None, "probe": None,
        }  # fmt: skip
        assert rig.finish() == 0


def test_while_it_is_open_nothing_is_handed_out_and_status_says_why(tmp_path: Path, down: Path) -> None:
    with a_rig(tmp_path, SLOW) as rig:
        rig.enqueue([{"down": str(down)}] * 50)
        opens(rig)
        begun = runs(rig)
        rig.enqueue([{"down": str(down)}] * 5)
        rig.until(lambda: rig.counts()["queued"] == 55, 20, "all jobs waiting again")
        assert runs(rig) == begun
        shown = breaker(rig)
        assert shown["reason"] == "ConnectionError: nobody answers"
        assert shown["next_probe_at"] > shown["opened_at"]
        assert "breaker open, next probe at" in str(rig.counts()["reason"])


def test_what_ran_when_it_opened_is_not_charged(tmp_path: Path, down: Path, gate: Path) -> None:
    with a_rig(tmp_path, SLOW) as rig:
        (held,) = rig.enqueue([{"down": str(down), "until": str(gate)}])
        rig.until(lambda: rig.counts()["running"] == 1, 20, "a run")
        rig.enqueue([{"down": str(down)}] * 3)
        rig.until(lambda: breaker(rig)["state"] == "open", 20, "an open breaker")
        rig.until(lambda: opened(gate), 20, "the run at its gate")
        rig.until(lambda: rig.job(held)["state"] == "queued", 20, "the job waiting again")
        assert (rig.job(held)["failures"], rig.job(held)["errors"]) == (0, [])
        assert charged(rig) == 2


def test_it_outlives_the_keeper_and_is_closed_by_hand(tmp_path: Path, down: Path) -> None:
    with a_rig(tmp_path, SLOW) as rig:
        rig.enqueue([{"down": str(down)}] * 20)
        opens(rig)
        before = breaker(rig)
        rig.kill_keeper()
        rig.start_keeper()
        after = breaker(rig)
        kept = ("state", "reason", "opened_at")
        assert [after[name] for name in kept] == [before[name] for name in kept]
        down.unlink()
        rig.ask("resume", queue="q")
        rig.until(rig.drained, 20, "all jobs to end")
        assert (breaker(rig)["state"], charged(rig)) == ("closed", 2)


def test_a_probe_outlives_the_keeper_and_stays_the_only_one(tmp_path: Path, down: Path, gate: Path) -> None:
    with a_rig(tmp_path, TOUCHY, workers=1) as rig:
        rig.enqueue([{"down": str(down), "until": str(gate)}] * 6)
        rig.until(lambda: opened(gate), 20, "the first run at its gate")
        probe = rig.until(lambda: breaker(rig)["probe"], 20, "a probe")
        rig.kill_keeper()
        rig.start_keeper()
        rig.spawn()  # an idle worker, that could take another job
        rig.until(lambda: len(rig.ready) == 2 and rig.counts()["workers"] == 2, 20, "both workers")
        assert (breaker(rig)["state"], breaker(rig)["probe"], rig.counts()["running"]) == ("half_open", probe, 1)
        down.unlink()
        rig.until(lambda: opened(gate) and breaker(rig)["state"] == "closed", 20, "a closed breaker")
        rig.until(lambda: (opened(gate), rig.drained())[1], 20, "all jobs to end")
        assert charged(rig) == 1


def test_a_probe_whose_worker_dies_is_judged_and_another_follows(tmp_path: Path, down: Path, gate: Path) -> None:
    with a_rig(tmp_path, TOUCHY, workers=1) as rig:
        rig.enqueue([{"down": str(down), "until": str(gate)}] * 3)
        rig.until(lambda: opened(gate), 20, "the first run at its gate")
        probe = rig.until(lambda: breaker(rig)["probe"], 20, "a probe")
        began = rig.until(lambda: runs(rig) == 2, 20, "the probe to begin")
        assert began
        rig.kill_worker(next(iter(rig.hands.values())))
        rig.until(lambda: breaker(rig)["probe"] not in (None, probe), 20, "another probe")
        assert (rig.job(probe)["crashes"], rig.job(probe)["failures"]) == (1, 0)
        down.unlink()
        rig.until(lambda: (opened(gate), rig.drained())[1], 30, "all jobs to end")
        assert (charged(rig), breaker(rig)["state"]) == (1, "closed")


def test_jobs_that_a_worker_has_not_begun_are_taken_back(tmp_path: Path, down: Path, gate: Path) -> None:
    with a_rig(tmp_path, SLOW, workers=1) as rig:
        down.unlink()
        rig.enqueue([{"down": str(down)}] * 300)  # now it is known that they are quick: many are handed out at once
        rig.until(rig.drained, 20, "all jobs to end")
        down.touch()
        rig.enqueue([{"down": str(down)}, {"down": str(down)}, *[{"down": str(down), "until": str(gate)}] * 20])
        rig.until(lambda: breaker(rig)["state"] == "open", 20, "an open breaker")
        rig.until(lambda: rig.counts()["running"] <= 1, 20, "what was not begun to come back")
        assert runs(rig) <= 303


def test_errors_that_say_nothing_of_an_outage_do_not_open_it(tmp_path: Path, down: Path) -> None:
    options: dict[str, Any] = {"max_attempts": 1, "on_error": {"OSError": ErrorRule(action="dead")}}
    with a_rig(tmp_path, TOUCHY, **options) as rig:
        rig.enqueue([{"down": str(down)}] * 5)
        rig.until(rig.drained, 20, "all jobs to end")
        assert (rig.counts()["dead"], breaker(rig)["state"]) == (5, "closed")


def test_only_the_errors_that_are_named_count(tmp_path: Path, down: Path) -> None:
    named = Breaker(failures=1, cooldown_ms=3_600_000, max_cooldown_ms=3_600_000, on=("TimeoutError",))
    with a_rig(tmp_path, named, max_attempts=1) as rig:
        rig.enqueue([{"down": str(down)}] * 5)
        rig.until(rig.drained, 20, "all jobs to end")
        assert (rig.counts()["dead"], breaker(rig)["state"]) == (5, "closed")


def test_breakers_that_are_not_in_the_configuration_are_forgotten(tmp_path: Path, down: Path) -> None:
    with a_rig(tmp_path, SLOW) as rig:
        rig.enqueue([{"down": str(down)}] * 5)
        opens(rig)
        rig.kill_keeper()
        with closing(sqlite3.connect(rig.database)) as db:
            names = [(f"gone{number:03}",) for number in range(2 * FORGET_AT_ONCE + 1)]
            columns = [row[1] for row in db.execute("PRAGMA table_info(breaker)")]
            copied = ", ".join(columns[1:])
            db.executemany(
                f"INSERT INTO breaker ({columns[0]}, {copied}) SELECT ?, {copied} FROM breaker LIMIT 1", names
            )
            db.commit()
            rig.start_keeper()
            left = "SELECT queue FROM breaker"
            rig.until(lambda: db.execute(left).fetchall() == [("q",)], 20, "one breaker")
        assert breaker(rig)["state"] == "open"
