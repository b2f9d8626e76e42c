"""How a flow stands, in sentences: what of it goes on, and what it waits for. Pure; made of what `flow show` has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAMED_MAX = 3
GOES_ON = ("running", "queued", "scheduled")

Step = Mapping[str, Any]


def standing(flow: Step) -> str:
    """In one sentence: how far it is, and what must happen next."""
    jobs, name = flow["jobs"], f" ({flow['name']})" if flow["name"] else ""
    ended = f"{jobs['all'] - jobs['unfinished']} of {jobs['all']} jobs have ended"
    told = f"flow {flow['id']}{name}: {flow['state']}, {ended}"
    if flow["state"] != "running":
        return told
    first = next(_reasons(flow), None)
    return f"{told}; {first}" if first else told


def others(flow: Step) -> list[str]:
    """What else is to be said of a flow that has not ended."""
    return list(_reasons(flow))[1:] if flow["state"] == "running" else []


def next_steps(flow: Step) -> list[int]:
    """The jobs that go on now, or would: those that wait for no other step. `jobsctl explain` says more of each."""
    steps = [step for step in flow["steps"] if step["kind"] == "job"]
    return [step["id"] for step in steps if step["state"] in GOES_ON or _waits_for_code(step)]


def _reasons(flow: Step) -> Iterator[str]:
    steps: Sequence[Step] = flow["steps"]
    for state in GOES_ON:
        found = [step for step in steps if step["kind"] == "job" and step["state"] == state]
        if found:
            yield f"{_named(found)} {'is' if len(found) == 1 else 'are'} {state}"
    coming = {step["id"]: step["name"] for step in steps if step["state"] == "waiting"}
    for step in steps:
        signals = [coming[parent] for parent in step["after"] if parent in coming]
        if step["state"] == "blocked" and signals and step["waits"] == len(signals):
            how = f"jobsctl flow signal {flow['id']} {signals[0]}"
            yield f"{_named([step])} waits for signal {', '.join(signals)}: {how}"
    parked = [step for step in steps if _waits_for_code(step)]
    if parked:
        yield f"{_named(parked)} {'waits' if len(parked) == 1 else 'wait'} for code that knows the task"
    if flow["open"]:
        yield f"it is open, and ends after jobsctl flow close {flow['id']}"


def _waits_for_code(step: Step) -> bool:
    return step["kind"] == "job" and step["state"] == "blocked" and not step["waits"]


def _named(steps: Sequence[Step]) -> str:
    names = [f"{step['name']} (job {step['id']})" if step["name"] else f"job {step['id']}" for step in steps]
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more:,} more" if more > 0 else "")
