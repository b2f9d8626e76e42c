"""Three versions of an application's tasks as they are deployed, and by hand what each of them runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.job import Done, Job, Outcome, Unknown
from supervisor.policy.tasks import Known
from supervisor.task import Task, task
from supervisor.worker.executors.tasks import TaskExecutor

TASK_QUEUES = ("tasks", "side")
"""One with one pool, and one that two pools draw from."""
NAMES = ("first", "second", "third")
"""The versions, the oldest first."""

RUNS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "first": {"digest": (1, 1)},
    "second": {"digest": (1, 2)},
    "third": {"digest": (2, 3), "report": (2, 3), "sum": (1, 1)},
}
"""By the name of a task, the payloads that each of them runs, from which version to which."""


def runs(code: str, need: tuple[str, int]) -> bool:
    """Whether code runs a payload of this version, 0 being any, of the task of this name."""
    name, version = need
    oldest, newest = RUNS[code].get(name, (1, 0))
    return newest > 0 and (not version or oldest <= version <= newest)


def trail(code: str, need: tuple[str, int]) -> list[int]:
    """From which versions a payload was upgraded on its way to this code."""
    name, version = need
    newest = RUNS[code][name][1]
    return list(range(version or newest, newest))


def _digest(newest: int, oldest: int, aliases: tuple[str, ...] = ()) -> Task:
    @task(name="digest", version=newest, aliases=aliases)
    def digest(job: Job) -> Any:
        return {"trail": job.payload["trail"]}

    for version in range(oldest, newest):

        @digest.upgrade(version)
        def _upgrade(payload: Any, version: int = version) -> Any:
            return {"trail": [*payload["trail"], version]}

    return digest


@task(name="sum")
def _sum(job: Job) -> Any:
    return {"trail": job.payload["trail"]}


_MODULES = {"first": [_digest(1, 1)], "second": [_digest(2, 1)], "third": [_digest(3, 2, ("report",)), _sum]}
_EXECUTORS = {
    code: TaskExecutor({name: each for each in tasks for name in (each.name, *each.aliases)}, 1 << 20)
    for code, tasks in _MODULES.items()
}


def published(code: str) -> tuple[Known, ...]:
    """What a foreman says of the code that it has imported."""
    return _EXECUTORS[code].known


def run(code: str, job_id: int, token: int, need: tuple[str, int]) -> Outcome:
    """What a worker of this code makes of a job."""
    name, version = need
    job = Job(id=job_id, queue="tasks", payload={"trail": []}, token=token, task=name, version=version or None)
    return _EXECUTORS[code].run(job, b"")


def shows(code: str, need: tuple[str, int], outcome: Outcome) -> bool:
    """Whether a job ran as it must under this code, or was not run at all if the code does not know it."""
    if not runs(code, need):
        return outcome == Unknown(*need)
    expected = str({"trail": trail(code, need)}).replace("'", '"').replace(" ", "")
    return isinstance(outcome, Done) and outcome.result == expected.encode()
