"""Handlers as workers have them, called in this process: what they raise is an outcome, and can be looked at."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from supervisor.config.names import short_name
from supervisor.config.spec import Queue
from supervisor.errors import UsageError
from supervisor.job import Job
from supervisor.task import Task, tasks_of
from supervisor.unix.inheritance import Executor, HandlerUnusable
from supervisor.worker.executors import command, tasks
from supervisor.worker.executors.batch import BatchExecutor
from supervisor.worker.executors.python import PythonExecutor, beside, resolve

Handler = Callable[..., Any] | Task | ModuleType | str
"""A callable of one job, a task, a module of tasks, or the name of one of them as the configuration has it."""


NOBODYS = "/dev/null/none-in-a-test.sock"
"""A socket that cannot be: below what is no folder."""


class Watch:
    """Sees what a handler raises, before it becomes an outcome."""

    def __init__(self) -> None:
        self.raised: BaseException | None = None
        self.returned: Any = None

    def call(self, function: Callable[..., Any], given: Any) -> Any:
        """Call it with a job, or several. `raised` is then of this call, whatever the handler had run meanwhile."""
        self.returned = None
        try:
            returned = function(given)
        except BaseException as error:
            self.raised = error
            raise
        self.raised, self.returned = None, returned
        return returned

    def errors(self, jobs: int) -> list[BaseException | None]:
        """Of a call with so many jobs: what each failed of, raised for all of them or returned for itself."""
        entries = self.returned if isinstance(self.returned, (list, tuple)) else ()
        if self.raised is not None or len(entries) != jobs:
            return [self.raised] * jobs
        return [entry if isinstance(entry, BaseException) else None for entry in entries]

    def let_through(self) -> None:
        """Raise again what is meant for the test and not for jobsup: Ctrl-C, a test's own time-out, `pytest.fail`."""
        if self.raised is not None and not isinstance(self.raised, (Exception, SystemExit)):
            raise self.raised


class WatchedTasks(tasks.TaskExecutor):
    """Runs tasks, watched."""

    def __init__(self, known: dict[str, Task], watch: Watch, *args: Any) -> None:
        self._watch = watch
        super().__init__(known, *args)

    def _call(self, job: Job) -> Any:
        return self._watch.call(super()._call, job)


def executor_of(queue: Queue, watch: Watch, given: Handler | None = None) -> Executor:
    """The executor of a queue in this process; `given` runs in the place of what the configuration names.

    Unlike a worker's, it changes neither the environment nor the import path, and sets no alarm.

    Raises:
        HandlerUnusable: the handler or command cannot be used.
        UsageError: it is a command that stays alive: its worker ends as it does, which here is the test's process.
    """
    handler = given if given is not None else queue.handler
    if handler is None and queue.serve:
        name = short_name(queue.name)
        raise UsageError(
            f"queue {name} has serve = true: its command needs a worker of its own, and a harness has none",
            hint=f'give a function in its place, handlers={{"{name}": function}}, or use Daemon',
        )
    if handler is None:
        return command.load(queue)
    known = tasks_among(handler) if queue.has_tasks else None
    if known is not None:
        return WatchedTasks(known, watch, *beside(queue))
    function = resolve(handler) if isinstance(handler, str) else handler
    if not callable(function):
        raise HandlerUnusable(f"queue {short_name(queue.name)} has no tasks: give it a function, not {function!r}")
    return raising_to(watch, function, queue) if queue.batch_size is None else together(watch, function, queue)


def raising_to(watch: Watch, function: Callable[[Job], Any], queue: Queue) -> PythonExecutor:
    """Runs a function as the handler of a queue, watched."""
    return PythonExecutor(lambda job: watch.call(function, job), *beside(queue))


def together(watch: Watch, function: Callable[..., Any], queue: Queue) -> BatchExecutor:
    """Runs a function as the handler of a queue of batches, watched."""
    return BatchExecutor(lambda jobs: watch.call(function, jobs), *beside(queue))


def tasks_among(handler: Handler) -> dict[str, Task] | None:
    """The tasks that a handler stands for, by each of their names; None: it is one function."""
    if isinstance(handler, str):
        return None if ":" in handler else tasks.tasks_in(handler)
    if isinstance(handler, ModuleType):
        try:
            return tasks_of(handler)
        except ValueError as error:
            raise HandlerUnusable(str(error)) from error
    return _names_of(handler) if isinstance(handler, Task) else None


def _names_of(one: Task) -> dict[str, Task]:
    return dict.fromkeys((one.name, *one.aliases), one)


@contextlib.contextmanager
def surroundings(queue: Queue) -> Iterator[None]:
    """What the queue's handlers find beside what is there: its `env`, its `cwd`, $JOBSUP_WORKER and $JOBSUP_SOCKET.

    A client that a handler makes must not reach a daemon that runs on this machine, nor the database of one.
    """
    added = {"JOBSUP_WORKER": short_name(queue.name), "JOBSUP_SOCKET": NOBODYS} | queue.env
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        with contextlib.chdir(queue.cwd) if queue.cwd else contextlib.nullcontext():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def importable(folders: list[str]) -> Iterator[None]:
    """In this block, modules of these folders can be imported; what was imported stays."""
    added = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]
    sys.path[:0] = added
    try:
        yield
    finally:
        for folder in added:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)
