"""Why a job is not running: every reason by its kind, its facts, and the sentence that says it with the numbers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from supervisor.policy.duration import show

FEW = 5
EXACT_MS = 10_000
"""Shorter times are told to the millisecond."""


class Reason(NamedTuple):
    """One reason. `facts` have the units of their names: `_ms` durations, `_at_ms` instants, ids and counts."""

    kind: str
    facts: Mapping[str, Any] = {}

    @property
    def sentence(self) -> str:
        """What people are told."""
        return SENTENCES[self.kind](self.facts)


def _soon(facts: Mapping[str, Any]) -> str:
    """How long it takes, in whole seconds where nobody counts milliseconds any more."""
    in_ms = max(int(facts["in_ms"]), 0)
    return show(in_ms if in_ms < EXACT_MS else -(-in_ms // 1000) * 1000)


def _final(facts: Mapping[str, Any]) -> str:
    said = f"it is {facts['state']}" + (f": {facts['reason']}" if facts.get("reason") else "")
    error = (facts.get("error") or "").partition("\n")[0]
    return f"{said}; its last error: {error}" if facts["state"] == "dead" and error else said


def _due(facts: Mapping[str, Any]) -> str:
    why = f", attempt {facts['attempt']}; its last error: {facts['error']}" if facts.get("error") else ""
    return f"it is due in {_soon(facts)}{why}"


def _no_code(facts: Mapping[str, Any]) -> str:
    if not facts["task"]:
        return "it names no task, and its queue runs tasks only: jobsctl edit --task names one"
    what = f"task {facts['task']}" + (f" in version {facts['version']}" if facts["version"] > 1 else "")
    meant = f" ({facts['meant']})" if facts.get("meant") else ""
    remedy = "; jobsctl edit --task gives it another" if meant else ""
    return f"no worker at hand knows {what}{meant}; it runs as soon as code is loaded that does{remedy}"


def _steps(facts: Mapping[str, Any]) -> str:
    steps = ((step["name"], f"job {step['id']}") for step in facts["steps"])
    named = [f"{name} ({job})" if name else job for name, job in steps]
    named += [f"signal {name}" for name in facts["signals"]]
    more = f" and {facts['count'] - FEW:,} more" if facts["count"] > FEW else ""
    return f"it waits for {', '.join(named[:FEW])}{more}"


def _held(facts: Mapping[str, Any]) -> str:
    head = f"{_line(facts)} waits for job {facts['job']}"
    if facts["state"] == "dead":
        free = f"jobsctl keys {facts['queue']} --free {shlex.quote(facts['key'])}"
        return f"{head}, which is dead: retry or delete it, or let what comes after it run with {free}"
    if facts.get("in_ms") is not None:
        return f"{head}, which is tried again in {_soon(facts)}"
    return f"{head}, which is {facts['state']}"


def _key_paused(facts: Mapping[str, Any]) -> str:
    said = f"key {facts['key']} is" if facts["key"] else "jobs without a key are"
    return f"{said} paused; jobsctl keys {facts['queue']} --resume {shlex.quote(facts['key'])} lets them go on"


def _line(facts: Mapping[str, Any]) -> str:
    return f"key {facts['key']}" if facts["key"] else "the queue, which is ordered,"


def _of_key(facts: Mapping[str, Any]) -> str:
    return f" of key {facts['key']}" if facts["key"] else ""


def _slots(facts: Mapping[str, Any]) -> str:
    holders = ", ".join(map(str, facts["jobs"][:FEW])) + (", ..." if len(facts["jobs"]) > FEW else "")
    who = f"job {holders}" if len(facts["jobs"]) == 1 else f"jobs {holders}"
    return (
        f"{_limit(facts)} lets {facts['limit']} run at once, and {who} {_have(facts['jobs'])} {_them(facts['limit'])}"
    )


def _have(jobs: Any) -> str:
    return "has" if len(jobs) == 1 else "have"


def _them(count: int) -> str:
    return "that slot" if count == 1 else "all slots"


def _limit(facts: Mapping[str, Any]) -> str:
    kind, _, name = facts["name"].partition(":")
    said = {"queue": "the queue", "key": "the key", "line": "the order of the queue"}.get(kind, f"limit {name}")
    return f"{said} (key {facts['key']})" if facts["key"] and kind != "key" else said


def _gathers(facts: Mapping[str, Any]) -> str:
    return f"it waits up to {_soon(facts)} for {_more(facts['lacking'])} of its batch"


def _more(count: int) -> str:
    return "1 more job" if count == 1 else f"{count:,} more jobs"


def _rate(facts: Mapping[str, Any]) -> str:
    until = f"the next may begin in {_soon(facts)}"
    return f"{_limit(facts)} lets {facts['limit']} begin in {show(facts['period_ms'])}; {until}"


def _count(count: int, more: bool) -> str:
    jobs = "1 job" if count == 1 else f"{count:,} jobs"
    return f"more than {jobs}" if more else jobs


def _others(count: int) -> str:
    return "1 other job" if count == 1 else f"{count} others"


def _come(count: int) -> str:
    return "comes" if count == 1 else "come"


def _at(facts: Mapping[str, Any]) -> str:
    """How far a job says it is."""
    if "fraction" not in facts:
        return ""
    text = facts["text"].partition("\n")[0]
    return f", {facts['fraction']:.0%} done" + (f": {text}" if text else "")


SENTENCES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "final": _final,
    "running": lambda f: f"it is running{_at(f)} (lease {f['token']})",
    "running_batch": lambda f: f"it is running{_at(f)} in one call with {_others(f['jobs'] - 1)} (lease {f['token']})",
    "gathers": _gathers,
    "consumer": lambda f: f"consumer {f['consumer']} has it for another {_soon(f)} (lease {f['token']})",
    "no_consumer": lambda f: f"no consumer is asking for jobs of queue {f['queue']}",
    "handed_out": lambda f: f"a worker has it and has not begun it (lease {f['token']})",
    "due_later": _due,
    "no_code": _no_code,
    "steps": _steps,
    "other_code": lambda f: f"it waits for a worker of pool {f['pool']}, whose code knows task {f['task']}",
    "orphaned": lambda f: f"queue {f['queue']} is not in the configuration; jobsctl move takes its jobs elsewhere",
    "paused": lambda f: f"queue {f['queue']} is paused; jobsctl resume {f['queue']} lets it go on",
    "breaker": lambda f: f"the breaker of queue {f['queue']} is {f['said']}",
    "shut": lambda f: f"its handler has asked for no more{_of_key(f)} for another {_soon(f)}",
    "key_paused": _key_paused,
    "held": _held,
    "doomed": lambda f: f"it goes to the dead letters with its key, as job {f['job']} is dead",
    "behind_key": lambda f: f"{_count(f['count'], f['more'])} of {_line(f)} {_come(f['count'])} first",
    "slots": _slots,
    "rate": _rate,
    "behind": lambda f: f"{_count(f['count'], f['more'])} of the queue {_come(f['count'])} first",
    "behind_lanes": lambda f: f"{f['count']:,} {'keys have' if f['count'] != 1 else 'key has'} an earlier turn",
    "not_running": lambda _: "no daemon runs",
    "circuit": lambda f: f"the circuit of pool {f['pool']} is {f['circuit']}: {f['reason']}",
    "no_worker": lambda f: f"no worker of pool {f['pool']} is ready" + (f": {f['reason']}" if f.get("reason") else ""),
    "busy": lambda f: f"all {f['workers']} workers of pool {f['pool']} are busy" if f["workers"] > 1
    else f"the worker of pool {f['pool']} is busy",
    "stopping": lambda _: "the daemon is stopping and hands out nothing more",
    "store": lambda f: f"the database cannot be written: {f['error']}",
    "next": lambda _: "it is next, and is being handed out",
}  # fmt: skip
"""Kind -> its sentence. A kind that is not here does not exist."""
