"""For tests of applications: handlers without a daemon, a queue with a virtual clock, a real daemon to break.

    from supervisor.testing import Harness, run_inline

    assert run_inline("myapp.mail:send", {"to": "a@b.c"}).completed

    with Harness("etc/queues.toml") as jobs:
        jobs.client.enqueue("emails", {"to": "a@b.c"}, delay="5m")
        jobs.advance("5m")
        jobs.assert_enqueued("emails", payload={"to": "a@b.c"}, state="completed")

Names are imported when they are first used: the pytest plugin lies in this package, and costs a run nothing that does
not use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisor.testing.clock import VirtualClock
    from supervisor.testing.daemon import Daemon
    from supervisor.testing.disturbances import Crash, Fail, Interrupt, TimeOut
    from supervisor.testing.enqueued import Enqueued, assert_enqueued, assert_not_enqueued
    from supervisor.testing.harness import Harness
    from supervisor.testing.inline import InlineRun, run_inline
    from supervisor.testing.workers import Run

__all__ = [
    "Crash", "Daemon", "Enqueued", "Fail", "Harness", "InlineRun", "Interrupt", "Run", "TimeOut", "VirtualClock",
    "assert_enqueued", "assert_not_enqueued", "run_inline",
]  # fmt: skip

_HOMES = {
    "VirtualClock": "clock", "Daemon": "daemon", "Crash": "disturbances", "Fail": "disturbances",
    "Interrupt": "disturbances", "TimeOut": "disturbances", "Enqueued": "enqueued", "assert_enqueued": "enqueued",
    "assert_not_enqueued": "enqueued", "Harness": "harness", "InlineRun": "inline", "run_inline": "inline",
    "Run": "workers",
}  # fmt: skip
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
