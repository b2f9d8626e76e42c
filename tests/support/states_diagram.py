"""docs/states.md, made from the transition table: `python -m tests.support.states_diagram > docs/states.md`."""

from __future__ import annotations

from collections.abc import Iterator

from supervisor.job import TRANSITIONS, Event, State

HEAD = """\
# The states of a job

Made from the table `TRANSITIONS` in `supervisor/job.py` by `python -m tests.support.states_diagram > docs/states.md`;
a test compares the two. What is not drawn here does not happen: asking for it is refused, and changes nothing.
"""

STATES = {
    State.BLOCKED: "It waits for steps of its flow or for a signal; or for code, as no worker at hand knows its task.",
    State.SCHEDULED: "It is due later: enqueued so, to be retried (then its attempt is above 0), or snoozed.",
    State.QUEUED: "It waits for a worker, in the order of its queue.",
    State.RUNNING: "A worker has it under a lease; only a report with that lease's token counts.",
    State.COMPLETED: "Its handler returned; its result is kept as long as the queue's retention says.",
    State.DEAD: "It is given up, with the reason and every attempt's error: the dead letters of its queue.",
    State.CANCELLED: "It was called off, by a client or by its own handler, and will not run again by itself.",
}

EVENTS = {
    Event.ENQUEUE: "A client, or a handler that completed, has enqueued it to run as soon as a worker is free.",
    Event.ENQUEUE_LATER: "It was enqueued with a delay or a time to come.",
    Event.ENQUEUE_BLOCKED: "It is a step of a flow, and comes after others or waits for a signal.",
    Event.PROMOTE: "Its time has come; it counts as newly arrived in its queue.",
    Event.LEASE: "It was handed out to a worker under a new token.",
    Event.COMPLETE: "Its whole outcome is recorded, with the jobs that its handler enqueued.",
    Event.RETRY: "The attempt failed or its worker crashed, and the budget for that is not used up: again after the "
    "backoff.",
    Event.SNOOZE: "Its handler or a rule asked to run it later, or its queue's breaker is open; nothing is charged.",
    Event.BURY: "Its attempts, crashes, interruptions or time are used up, or its handler or a rule gave it up.",
    Event.RELEASE: "It goes back to the place it had: not started, or interrupted by a stop, a reload or a reboot.",
    Event.PARK: "Its worker does not know its task, or only an earlier version of it: nothing is charged.",
    Event.UNBLOCK: "What it waited for is there; it counts as newly arrived in its queue.",
    Event.UNBLOCK_LATER: "What it waited for is there, and its delay begins.",
    Event.CANCEL: "Somebody called it off (a running job when its run ends), or its time to live was over.",
    Event.REVIVE: "Somebody asked for it again (`jobsctl retry`): it keeps its id and begins with fresh budgets.",
    Event.REVIVE_LATER: "A replay of dead letters (`jobsctl dead retry --pace`) has set a time for it to run again.",
    Event.REVIVE_BLOCKED: "Its flow runs again (`jobsctl flow retry`), and it comes after a step that does, too.",
    Event.EDIT: "Somebody changed its payload or options (`jobsctl edit`): where it stands stays the same.",
    Event.POSTPONE: "Somebody gave it another time to run at (`jobsctl edit --delay`).",
}


def page() -> str:
    """The whole of docs/states.md."""
    return "\n".join([HEAD, *diagram(), "", "## States", "", *states(), "", "## Events", "", *events(), ""])


def diagram() -> Iterator[str]:
    """The table as a Mermaid state diagram; final states end it, and are left by a revival."""
    yield "```mermaid"
    yield "stateDiagram-v2"
    for state, row in TRANSITIONS.items():
        for event, follows in row.items():
            yield f"    {state or '[*]'} --> {follows}: {event}"
    yield from (f"    {state} --> [*]" for state in State if state.final)
    yield "```"


def states() -> Iterator[str]:
    """A row for each state: what it means, what can happen in it."""
    yield "| state | meaning | what can happen to it |"
    yield "|---|---|---|"
    for state in State:
        row = ", ".join(f"{event} → {follows}" for event, follows in TRANSITIONS[state].items())
        yield f"| `{state}` | {STATES[state]} | {row or '-'} |"


def events() -> Iterator[str]:
    """A row for each event: what it means."""
    yield "| event | meaning |"
    yield "|---|---|"
    yield from (f"| {event} | {EVENTS[event]} |" for event in Event)


if __name__ == "__main__":
    print(page(), end="")
