"""How a flow stands, and why it has not ended: what goes on of it, and what it waits for. Pure: of what is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAMED_MAX = 3
GOES_ON = ("running", "queued", "scheduled")

Shown = Mapping[str, Any]
"""A flow, or a step of it, as `jobsctl flow show --json` shows it."""


def explanation(flow: Shown) -> dict[str, Any]:
    """The answer to who asks: one sentence, and every reason by its kind, with its numbers, the first one first."""
    jobs, name = flow["jobs"], f" ({flow['name']})" if flow["name"] else ""
    ended = jobs["all"] - jobs["unfinished"]
    head = f"{flow['state']}, {ended} of {jobs['all']} jobs have ended"
    found = list(_reasons(flow)) if flow["state"] == "running" else []
    first = found[0] if found else {"kind": "flow", "sentence": ""}
    told = f"{head}; {first['sentence']}" if found else head
    reasons = [{**first, "sentence": told, "ended": ended, "jobs": jobs["all"]}, *found[1:]]
    sentence = f"flow {flow['id']}{name}: {told}"
    return {"id": flow["id"], "queue": None, "key": None, "state": flow["state"], "sentence": sentence,
            "reasons": reasons}  # fmt: skip


def next_steps(flow: Shown) -> list[int]:
    """The jobs that go on now, or would: those that wait for no other step."""
    steps = [step for step in flow["steps"] if step["kind"] == "job"]
    return [step["id"] for step in steps if step["state"] in GOES_ON or _waits_for_code(step)]


def _reasons(flow: Shown) -> Iterator[dict[str, Any]]:
    steps: Sequence[Shown] = flow["steps"]
    for state in GOES_ON:
        found = [step for step in steps if step["kind"] == "job" and step["state"] == state]
        if found:
            yield _told("goes_on", f"{_named(found)} {'is' if len(found) == 1 else 'are'} {state}", found, state=state)
    coming = {step["id"]: step["name"] for step in steps if step["state"] == "waiting"}
    for step in steps:
        signals = [coming[parent] for parent in step["after"] if parent in coming]
        if step["state"] == "blocked" and signals and step["waits"] == len(signals):
            how = f"jobsctl flow signal {flow['id']} {signals[0]}"
            said = f"{_named([step])} waits for signal {', '.join(signals)}: {how}"
            yield _told("signals", said, [step], signals=signals)
    parked = [step for step in steps if _waits_for_code(step)]
    if parked:
        said = f"{_named(parked)} {'waits' if len(parked) == 1 else 'wait'} for code that knows the task"
        yield _told("no_code", said, parked)
    if flow["open"]:
        yield _told("open", f"it is open, and ends after jobsctl flow close {flow['id']}", ())
    if flow["more"]:
        yield _told("more", f"it has more steps than the {len(steps):,} that are looked at here", ())


def _told(kind: str, sentence: str, steps: Sequence[Shown], **facts: Any) -> dict[str, Any]:
    named = [{"id": step["id"], "name": step["name"]} for step in steps[:NAMED_MAX]]
    return {"kind": kind, "sentence": sentence, "count": len(steps), "steps": named, **facts}


def _waits_for_code(step: Shown) -> bool:
    return bool(step["kind"] == "job" and step["state"] == "blocked" and not step["waits"])


def _named(steps: Sequence[Shown]) -> str:
    jobs = ((step["name"], f"job {step['id']}") for step in steps[:NAMED_MAX])
    names = [f"{name} ({job})" if name else job for name, job in jobs]
    more = len(steps) - NAMED_MAX
    return ", ".join(names) + (f" and {more:,} more" if more > 0 else "")
