"""From steps as they are asked for to a plan: every step once, what it comes after, parents always before children.

A flow in a flow is a step, too: what comes after it waits for all of it, and its own first steps wait for what it
comes after. So a plan knows only steps and edges between them.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, Protocol

from supervisor.flow import condition
from supervisor.flow.rules import POLICIES, Policy

EDGES_MAX = 25_000
"""With so many, ten thousand steps take about twice as long to go in as jobs that come after nothing."""
PARENTS_MAX = 10_000
DEPTH_MAX = 8
SIGNALS_MAX = 32
CONDITIONS_MAX = 200_000
"""So many characters the different conditions of a request may have: each is read before it is accepted."""
FREE_CONDITIONS_MAX = 100
"""So many steps of a request that come after nothing may have conditions: they are looked at while it is inserted."""
NEAR_LENGTH = 3
NEAR_MAX = 200
NEAR_PAIRS_MAX = 40_000
"""So many pairs of characters are compared to find a name that may be meant."""
FLOW_SIGNALS_MAX = 1_000
"""Different signals of one flow, those that came and those that are waited for; each is a row that stays with it."""


class FlowInvalid(ValueError):
    """Steps that are no flow; `hint` says what would be."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Asked(Protocol):
    """A step as it is asked for. `steps` makes it a flow of its own; `after` is names, or names with policies."""

    @property
    def name(self) -> str | None: ...
    @property
    def queue(self) -> str | None: ...
    @property
    def after(self) -> Sequence[str] | Mapping[str, str]: ...
    @property
    def when(self) -> str | None: ...
    @property
    def wait_for(self) -> Sequence[str]: ...
    @property
    def steps(self) -> Sequence[Any] | None: ...


class Planned(NamedTuple):
    """A step of a plan. `parents` are places in the plan, or names of steps that the flow has already.

    `flow` is the place of the flow that it belongs to; -1 is the flow that is asked for.
    """

    asked: Any
    flow: int
    parents: tuple[tuple[int | str, Policy], ...]
    nested: bool


def plan(steps: Sequence[Asked], *, grafted: bool = False) -> list[Planned]:
    """The steps in an order in which each comes after its parents.

    With `grafted` they are added to a flow that exists: names that are not among them are those of its steps.

    Raises:
        FlowInvalid: a cycle, a name that is missing or given twice, more edges than may be.
    """
    _check_conditions(steps)
    planned: list[Planned] = []
    _Level(planned, -1, grafted=grafted).lay(steps, (), 0, "")
    edges = sum(len(step.parents) for step in planned)
    if edges > EDGES_MAX:
        raise FlowInvalid(f"the flow has {edges:,} edges, the limit is {EDGES_MAX:,}", MANY_EDGES)
    free = sum(not step.parents and step.asked.when is not None for step in planned)
    if free > FREE_CONDITIONS_MAX:
        raise FlowInvalid(
            f"{free:,} steps that come after nothing have conditions, the limit is {FREE_CONDITIONS_MAX}",
            "leave out the steps that are not wanted: who starts the flow knows its context",
        )
    return planned


MANY_EDGES = "put many steps that one waits for into a flow of their own, and let it come after that"


def _check_conditions(steps: Sequence[Asked]) -> None:
    different, left = set[str](), [(steps, 0)]
    while left:
        level, depth = left.pop()
        different.update(step.when for step in level if step.when is not None)
        left += [(step.steps, depth + 1) for step in level if step.steps is not None and depth < DEPTH_MAX]
    characters = sum(map(len, different))
    if characters > CONDITIONS_MAX:
        raise FlowInvalid(
            f"the conditions have {characters:,} characters, the limit is {CONDITIONS_MAX:,}",
            "add the steps to an open flow, in several groups",
        )


class _Level:
    """The steps of one flow; a flow among them has a level of its own."""

    def __init__(self, planned: list[Planned], flow: int, *, grafted: bool) -> None:
        self.planned = planned
        self.flow = flow
        self.grafted = grafted

    def lay(
        self, steps: Sequence[Asked], outer: tuple[tuple[int | str, Policy], ...], depth: int, path: str
    ) -> None:  # fmt: skip
        """Add the steps to the plan; those that come after none of the others come after `outer`."""
        if depth > DEPTH_MAX:
            raise FlowInvalid(f"{path}: flows are nested more than {DEPTH_MAX} deep")
        names = _names(steps, path)
        after = [_parents(step, path) for step in steps]
        places: dict[int, int] = {}
        for at in _ordered(steps, names, after, path, grafted=self.grafted):
            step, parents = (
                steps[at],
                tuple((places[names[name]] if name in names else name, policy) for name, policy in after[at].items()),
            )
            places[at] = len(self.planned)
            if step.steps is None:
                _check_step(step, _path(path, step, at), set(after[at]) or self._named(outer))
                self.planned.append(Planned(step, self.flow, parents or outer, nested=False))
            else:
                self._nest(step, parents or outer, depth, _path(path, step, at))

    def _named(self, parents: tuple[tuple[int | str, Policy], ...]) -> set[str]:
        """The names of steps of the flows around it."""
        names = (ref if isinstance(ref, str) else self.planned[ref].asked.name for ref, _ in parents)
        return {name for name in names if name is not None}

    def _nest(
        self, step: Asked, parents: tuple[tuple[int | str, Policy], ...], depth: int, path: str
    ) -> None:  # fmt: skip
        assert step.steps is not None
        if step.queue is not None or step.when is not None or step.wait_for:
            raise FlowInvalid(f"{path}: a flow in a flow has no queue, when or wait_for", "its steps may have them")
        if not step.steps:
            raise FlowInvalid(f"{path}: a flow in a flow needs at least one step")
        inner = _Level(self.planned, len(self.planned), grafted=False)
        self.planned.append(Planned(step, self.flow, (), nested=True))
        inner.lay(step.steps, parents, depth + 1, path)


def _path(path: str, step: Asked, at: int) -> str:
    here = f"steps[{at}]" if step.name is None else f"step {step.name}"
    return f"{path}: {here}" if path else here


def _names(steps: Sequence[Asked], path: str) -> dict[str, int]:
    names: dict[str, int] = {}
    for at, step in enumerate(steps):
        if step.name is None:
            continue
        if step.name in names:
            raise FlowInvalid(f"{_path(path, step, at)}: two steps have this name")
        names[step.name] = at
    return names


def _parents(step: Asked, path: str) -> dict[str, Policy]:
    """What a step comes after, each with what it does if that fails."""
    after = step.after
    if len(after) > PARENTS_MAX:
        here = f"step {step.name}" if step.name else "a step"
        raise FlowInvalid(
            f"{path + ': ' if path else ''}{here} comes after {len(after):,} steps, the limit is {PARENTS_MAX:,}",
            MANY_EDGES,
        )
    if isinstance(after, Mapping):
        return {name: POLICIES[policy] for name, policy in after.items()}
    return dict.fromkeys(after, Policy.CANCEL)


def _check_step(step: Asked, path: str, after: Collection[str]) -> None:
    if step.queue is None:
        raise FlowInvalid(f"{path}: it names no queue", "a step has a queue, or steps of its own")
    if len(step.wait_for) > SIGNALS_MAX or len(set(step.wait_for)) < len(step.wait_for):
        raise FlowInvalid(f"{path}: wait_for takes up to {SIGNALS_MAX} different signals")
    if step.when is not None:
        try:
            condition.check(step.when)
        except condition.BadCondition as error:
            raise FlowInvalid(
                f"{path}: when is no expression: {error}", "it is JMESPath, as in: results.a.ok"
            ) from None
        _check_names(step, path, after)


def _check_names(step: Asked, path: str, after: Collection[str]) -> None:
    """A step knows what it comes right after and nothing else: a condition of more would never hold, and skip it."""
    assert step.when is not None
    for member, asked in sorted(condition.names_in(step.when)):
        name = condition.printable(asked)
        if asked not in (step.wait_for if member == "signals" else after):
            told = f"it does not wait for signal {name}" if member == "signals" else f"it does not come after {name}"
            hint = f"put {name} into {'wait_for' if member == 'signals' else 'after'}: a step is told of those alone"
            raise FlowInvalid(f"{path}: when speaks of {member}.{name}, but {told}", hint)


def _ordered(
    steps: Sequence[Asked], names: Mapping[str, int], after: Sequence[Mapping[str, Policy]], path: str, *, grafted: bool
) -> list[int]:
    """The steps, each after its parents, otherwise as they were given."""
    waits = [0] * len(steps)
    children: dict[int, list[int]] = {}
    for at, parents in enumerate(after):
        for name in parents:
            if name in names:
                waits[at] += 1
                children.setdefault(names[name], []).append(at)
            elif not grafted:
                raise FlowInvalid(
                    f"{_path(path, steps[at], at)}: there is no step {name} to come after", _near(name, names)
                )
    ready = deque(at for at, count in enumerate(waits) if not count)
    order = []
    while ready:
        at = ready.popleft()
        order.append(at)
        for child in children.get(at, ()):
            waits[child] -= 1
            if not waits[child]:
                ready.append(child)
    if len(order) < len(steps):
        raise FlowInvalid(f"{path + ': ' if path else ''}{_cycle(steps, names, after, set(order))}")
    return order


def _cycle(
    steps: Sequence[Asked], names: Mapping[str, int], after: Sequence[Mapping[str, Policy]], laid: set[int]
) -> str:
    """The sentence that names steps which come after each other."""
    at = next(at for at in range(len(steps)) if at not in laid)
    seen: dict[int, int] = {}
    while at not in seen:
        seen[at] = len(seen)
        at = next(names[name] for name in after[at] if name in names and names[name] not in laid)
    ring = [str(steps[each].name) for each in [*list(seen)[seen[at] :], at]]
    shown = ring if len(ring) <= 8 else [*ring[:7], "..."]
    return f"steps come after each other in a ring: {' after '.join(shown)}"


def _near(name: str, names: Mapping[str, int]) -> str | None:
    """A name that may be meant. Long ones take long to compare, and nobody is to wait for a hint."""
    like = (each for each in names if abs(len(each) - len(name)) <= NEAR_LENGTH)
    few = min(NEAR_MAX, NEAR_PAIRS_MAX // max(len(name), 1) ** 2)
    close = difflib.get_close_matches(name, islice(like, few), 1)
    return f"did you mean {close[0]}?" if close else None
