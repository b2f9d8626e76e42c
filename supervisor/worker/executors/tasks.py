"""Runs the tasks of a module: `handler = "package.module"`. Each job names its task."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from supervisor.config.spec import Queue
from supervisor.job import Job, Outcome, Unknown
from supervisor.policy.tasks import Known, meets, need_of
from supervisor.task import Task, tasks_of
from supervisor.unix.inheritance import HandlerUnusable
from supervisor.worker.executors.python import PythonExecutor, beside, message_of, trace_of, within


class TaskExecutor(PythonExecutor):
    """Calls the task that the job names, unless this code does not know it."""

    def __init__(self, tasks: Mapping[str, Task], *args: Any) -> None:
        super().__init__(self._call, *args)
        self._tasks = tasks
        self._known = {name: task.known for name, task in tasks.items()}

    @property
    def known(self) -> tuple[Known, ...]:
        """What this code knows."""
        return tuple(task.known for task in dict.fromkeys(self._tasks.values()))

    def run(self, job: Job, payload: bytes) -> Outcome:
        """Run the job, or say that it needs other code."""
        need = need_of(job.task, job.version)
        if not meets(self._known, need):
            return Unknown(*need)
        return super().run(job, payload)

    def _call(self, job: Job) -> Any:
        assert job.task is not None
        return self._tasks[job.task].run(job)


def load(queue: Queue) -> TaskExecutor:
    """Import the module.

    Raises:
        HandlerUnusable: it cannot be imported, or has no tasks, or two of one name; with the traceback.
    """
    assert queue.handler is not None
    with within(queue.boot_timeout_ms):
        return TaskExecutor(tasks_in(queue.handler), *beside(queue))


def tasks_in(module: str) -> dict[str, Task]:
    """The tasks of a module, by each of their names.

    Raises:
        HandlerUnusable: it cannot be imported, or has no tasks, or two of one name; with the traceback.
    """
    try:
        return tasks_of(importlib.import_module(module))
    except BaseException as error:
        raise HandlerUnusable(f"{module} cannot be imported: {message_of(error)}", trace_of(error)) from error
