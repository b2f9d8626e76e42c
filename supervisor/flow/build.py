"""How a program writes a flow: steps that come after steps, and the request that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

OnFailure: TypeAlias = Literal["cancel", "ignore", "continue"]
After: TypeAlias = "Step | str | Iterable[Step | str] | Mapping[Step | str, OnFailure]"


class Step:
    """A job of a flow, to be: `step(queue, payload)`. `options` are those of `Client.enqueue`.

    `when` is a condition (JMESPath), `wait_for` the names of signals that must have come before it starts, `after` what
    it comes after: a step or the name of one, several, or a mapping that says of each what its failure does.
    """

    def __init__(
        self, queue: str | None, payload: Any = None, *, name: str | None = None, when: str | None = None,
        wait_for: str | Iterable[str] = (), after: After = (), **options: Any,
    ) -> None:  # fmt: skip
        self.queue = queue
        self.payload = payload
        self.name = name
        self.when = when
        self.wait_for = (wait_for,) if isinstance(wait_for, str) else tuple(wait_for)
        self.options = options
        self.parents: list[tuple[Step | str, OnFailure]] = []
        self.children: list[Step] = []
        for each in (after,) if isinstance(after, str | Step) else after:
            self.after(each, on_failure=after[each] if isinstance(after, Mapping) else "cancel")

    def then(self, *steps: Step, on_failure: OnFailure = "cancel") -> Step:
        """Let steps come after this one; returns the last of them, so that chains are written in a line."""
        for each in steps:
            each.after(self, on_failure=on_failure)
        return steps[-1] if steps else self

    def after(self, *steps: Step | str, on_failure: OnFailure = "cancel") -> Step:
        """Come after these: steps, or names of steps that the flow has already; returns this step."""
        for each in steps:
            self.parents.append((each, on_failure))
            if isinstance(each, Step):
                each.children.append(self)
        return self


def step(queue: str, payload: Any = None, **options: Any) -> Step:
    """A step; what it may have is that of `Step`."""
    return Step(queue, payload, **options)


class Flow(Step):
    """Steps, and what is to happen once they have ended. In another flow it is a step itself.

    Args:
        steps: some of them at least: all that come before or after these belong to it, too.
        name: what it is called where people look at it.
        context: JSON that every step is given, as `job.flow.context`.
        on_success: the job to enqueue once every step has completed: a step of no flow.
        on_complete: the one once every step has ended, however.
        on_death: the one once the first of its jobs is dead.
    """

    def __init__(
        self, *steps: Step, name: str | None = None, context: Any = None, on_success: Step | None = None,
        on_complete: Step | None = None, on_death: Step | None = None,
    ) -> None:  # fmt: skip
        super().__init__(None, name=name)
        self.steps = list(steps)
        self.context = context
        self.callbacks = {"on_success": on_success, "on_complete": on_complete, "on_death": on_death}

    def add(self, *steps: Step) -> Flow:
        """Add steps; returns the flow."""
        self.steps += steps
        return self

    def members(self) -> list[Step]:
        """Its steps, those included that come before or after one that it was given."""
        found: dict[Step, None] = {}
        waiting = list(reversed(self.steps))
        while waiting:
            each = waiting.pop()
            if each not in found:
                found[each] = None
                linked = [*(parent for parent, _ in each.parents if isinstance(parent, Step)), *each.children]
                waiting += [other for other in reversed(linked) if other not in found]
        return list(found)

    def request(self) -> Mapping[str, Any]:
        """The flow as it would be written in a file; payloads and options are those of Python still."""
        return {"name": self.name, "context": self.context, **_inside(self)}


def _inside(flow: Flow) -> dict[str, Any]:
    """Steps and callbacks as a request has them. A step that others name has a name, if need be a made one."""
    members = flow.members()
    taken = {each.name for each in members if each.name is not None}
    names = {each: each.name for each in members if each.name is not None}
    number = 0
    for each in members:
        if each not in names and each.children:
            number += 1
            while f"step-{number}" in taken:
                number += 1
            names[each] = f"step-{number}"
    callbacks = {name: _one(made, None, {}) for name, made in flow.callbacks.items() if made is not None}
    return {"steps": [_one(each, names.get(each), names) for each in members], **callbacks}


def _one(made: Step, name: str | None, names: Mapping[Step, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {} if name is None else {"name": name}
    if made.parents:
        policies = {names[each] if isinstance(each, Step) else each: policy for each, policy in made.parents}
        shown["after"] = list(policies) if set(policies.values()) == {"cancel"} else policies
    if isinstance(made, Flow):
        return shown | _inside(made)
    shown |= {**made.options, "queue": made.queue, "payload": made.payload}
    if made.when is not None:
        shown["when"] = made.when
    if made.wait_for:
        shown["wait_for"] = list(made.wait_for)
    return shown
