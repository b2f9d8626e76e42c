"""Makes the executor of a queue, in the environment that its handlers are promised."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

from supervisor.config.findable import import_path
from supervisor.config.names import scope_of, short_name
from supervisor.config.sockets import socket_in
from supervisor.config.spec import Queue
from supervisor.unix.inheritance import Executor, HandlerUnusable
from supervisor.worker.executors import command, python, serve, tasks
from supervisor.worker.executors.batch import BatchExecutor

PASSED = re.compile(r"PATH|HOME|LANG|LC_.*|PYTHON.*|JOBSUP_SOCKET|JOBSUP_CONFIG|JOBSUP_FAILPOINT.*|COVERAGE_.*")


def load(queue: Queue) -> Executor:
    """Take on the queue's environment and folder, then import its handler or find its command.

    Raises:
        HandlerUnusable: the handler, the command or the folder cannot be used.
    """
    environment = environment_for(queue, os.environ)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [*queue.python_path, *import_path()]  # never the working directory: `--check` looks by the same rule
    if queue.cwd:
        try:
            os.chdir(queue.cwd)
        except OSError as error:
            raise HandlerUnusable(f"cwd {queue.cwd}: {error.strerror}") from error
    if queue.has_tasks:
        return tasks.load(queue)
    if queue.serve:
        return serve.load(queue)
    if queue.batch_size is not None:
        return python.load(queue, BatchExecutor)
    return python.load(queue) if queue.handler else command.load(queue)


def environment_for(queue: Queue, environ: Mapping[str, str]) -> dict[str, str]:
    """What a queue's handlers see: an allow-list, what the queue passes on, and what it sets."""
    kept = {name: value for name, value in environ.items() if PASSED.fullmatch(name) or name in queue.pass_env}
    scope = scope_of(queue.name)
    if scope and "JOBSUP_SOCKET" in kept:
        kept["JOBSUP_SOCKET"] = socket_in(os.path.dirname(kept["JOBSUP_SOCKET"]), scope)
    return kept | {"JOBSUP_WORKER": short_name(queue.name)} | queue.env
