"""What a schedule is doing, in sentences for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from cronsim import CronSim

from supervisor.policy.duration import show

_REFERENCE = datetime(2023, 12, 31)  # noqa: DTZ001 - a wall time of no zone
_NOT_RUN = {
    "skipped": "did not run, as {reason}",
    "failed": "could not run: {reason}",
    "missed": "was missed and not made up for",
    "waiting": "waits for the end of the job before it",
}


def describe(expression: str) -> str:
    """A cron expression in words, such as "At 02:30 on Monday"."""
    return str(CronSim(expression, _REFERENCE).explain())


def when(ms: int, zone: tzinfo) -> str:
    """An instant on the clock of a zone, with its offset."""
    return datetime.fromtimestamp(ms / 1000, zone).isoformat(timespec="seconds")


def rhythm(*, cron: str | None, every_ms: int | None, timezone: str) -> str:
    """When a schedule runs, in words; `cron` is an expression, no alias."""
    if every_ms is not None:
        return f"every {show(every_ms)}"
    return f"{describe(cron or '')} ({cron}, {timezone})"


def next_run(name: str, rest: str | None, next_ms: int | None, fires_ms: int | None, now_ms: int, zone: tzinfo) -> str:
    """When it runs next, or why it does not; `rest` says why it is at rest."""
    if rest is not None:
        return f"{name} does not run: {rest}"
    if next_ms is None or fires_ms is None:
        return f"{name} does not run any more: no due time is left"
    late = f", {show(fires_ms - next_ms)} later by its jitter" if fires_ms > next_ms else ""
    wait_ms = fires_ms - now_ms
    in_time = f"in {show(max(1_000, wait_ms // 1000 * 1000))}" if wait_ms > 0 else "now"
    return f"{name} runs next at {when(next_ms, zone)}{late}, {in_time}"


def last_run(outcome: str | None, shown: Mapping[str, Any]) -> str:
    """What happened last; `shown` has due, at, job, state and reason."""
    if outcome is None:
        return "nothing has been due yet"
    if outcome == "fired":
        became = shown["state"] or "gone by now"
        return f"last it ran for {shown['due']}: job {shown['job']}, which is {became}"
    said = _NOT_RUN.get(outcome, "{reason}").format(**shown)
    return f"the last due time {said}"
