"""Jobs that spoil their worker: the next jobs run as if nothing had happened, on this worker or on another."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from supervisor.worker import main as worker
from tests.support.field import HANDLERS, Field
from tests.support.ledger import check, read_database
from tests.support.rig import Rig, a_queue
from tests.support.waiting import alive, until

sys.path.insert(0, HANDLERS)
from abusive import DEEDS

QUEUE = {"workers": 1, "handler": "abusive:run", "after_fork": "abusive:remember_main", "timeout": "20s"}


@pytest.mark.parametrize("deed", DEEDS)
def test_the_next_jobs_notice_nothing(tmp_path: Path, deed: str) -> None:
    with Field(tmp_path, {"q": QUEUE}) as field:
        field.add([{"do": "nothing"}] * 100)
        field.drain()
        (keeper,), (foreman,) = field.pids("keeper"), field.pids("foreman")
        ids = []
        for _ in range(3):
            ids += field.add([{"do": "nothing"}] * 20 + [{"deed": deed}] + [{"do": "big", "bytes": 50_000}] * 5)
        field.drain(60)
        assert (field.pids("keeper"), field.pids("foreman")) == ([keeper], [foreman])
        assert field.stop() == 0
        assert field.survivors() == []
        problems = check(field.database, field.ledger, ids)
        jobs = read_database(field.database).jobs
        charged = {kind for job_id in ids if "do" in jobs[job_id].payload for kind in jobs[job_id].charges}
        assert {jobs[job_id].state for job_id in ids} == {"completed"}
        culprits = [job_id for job_id in ids if "deed" in jobs[job_id].payload]
        assert [problem for problem in problems if not excused(deed, problem, culprits)] == []
        assert charged <= ({"error"} if deed == "no_slot" else set())


def strangers(field: Field, count: int) -> list[int]:
    """What jobs have left running, once it is so many: a worker that is being replaced may be counted for a moment."""
    found = [pid for pid in field.survivors() if pid not in field.pids("master", "keeper", "foreman", "worker")]
    return found if len(found) == count else []


def excused(deed: str, problem: str, culprits: list[int]) -> bool:
    """What was lost with the slot's files is run again: large outcomes, of jobs that had ended well.

    Who scribbles over the words of its slot may lose its own outcome, if the keeper looks in that moment.
    """
    if deed == "scribble":
        return any(problem.startswith(f"runs are charged: job {job_id} ") for job_id in culprits)
    return deed in ("close_all", "no_slot") and problem.startswith("runs are charged")


def test_control_a_worker_that_lets_two_processes_report_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Planted: whoever comes back from the handler goes on as the worker."""
    monkeypatch.setattr(worker, "os", SimpleNamespace(**vars(os) | {"getpid": lambda: 1}))
    queue = a_queue(tmp_path, workers=1, handler="abusive:run", after_fork="abusive:remember_main")
    with Rig(tmp_path, [queue]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        ids = rig.enqueue([{"deed": "come_back_twice"}])
        for _ in range(40):
            ids += rig.enqueue([{"do": "spin", "us": 200}] * 5)
        with pytest.raises(AssertionError):
            rig.until(rig.drained, 3, "the end of all jobs")
            assert check(rig.database, rig.ledger, ids, all_final=False) == []


def test_what_a_job_leaves_running_ends_with_the_daemon(tmp_path: Path) -> None:
    """A process that escaped its session is still a descendant of its foreman's."""
    with Field(tmp_path, {"q": QUEUE}) as field:
        field.add([{"deed": "leave_a_process"}] * 3)
        field.drain()
        left = until(lambda: strangers(field, 3), what="three processes that nobody of ours is")
        assert field.stop() == 0
        until(lambda: not any(map(alive, left)), 2, "the end of what was left")
