"""What is remembered of flows that came in: what the rows of their steps say, so that these need not be read again.

A keeper that drains a flow would spend most of its time on reading what it wrote itself. Nothing depends on what is
here: a step that is not remembered is looked up. *Invariant:* what is remembered of a step is what its rows say, within
a transaction as between two; whoever may change them in another way than flows go on forgets it first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

NODES_MAX = 20_000
"""So many steps are remembered, at about 500 bytes each, and 2 KB at most."""
OLD_MS = 60_000
"""What has not been drained by then is no matter of the keeper's speed: it is forgotten when another flow comes."""
CONTEXT_MAX = 1_024
RESULT_MAX = 256
HEARD_BYTES_MAX = 1_024
"""A step that is told larger things than these has its story read from the rows."""

COMPLETED = b':"completed"'


class Plan(NamedTuple):
    """A flow. What every step of it is told begins with `head`, and goes on with `context` behind its name."""

    flow: int
    head: bytes
    context: bytes | None
    """None if it is too large to be remembered."""


class Node:
    """A step that is a job.

    `after`: the steps that come after it. `waits`: of how many ends it has not been told; `place`, its queue and its
    level there, is where it is released to then. 0 also for one that must be looked up for that, or has gone on.
    `results`, `states`: members of what it is told of those that it comes after; None if they must be looked up.
    `result_bytes`: set once it has completed; it is `result` and `state` in what others are told then, None if these
    must be looked up, empty if it has no name.
    """

    __slots__ = (
        "after", "name", "place", "plan", "result", "result_bytes", "results", "state", "states", "waits",
    )  # fmt: skip

    def __init__(self, plan: Plan, name: bytes | None) -> None:
        self.plan = plan
        self.name = name
        self.after: list[int] = []
        self.waits = 0
        self.place = NOWHERE
        self.results: bytes | None = b""
        self.states = b""
        self.result_bytes: int | None = None
        self.result: bytes | None = None
        self.state = b""

    def complete(self, result: str | None) -> None:
        """It completed, and this came of it."""
        found = b"null" if result is None else result.encode()
        self.result_bytes = 0 if result is None else len(found)
        if self.name is None:
            self.result = b""
        elif len(found) <= RESULT_MAX:
            self.result, self.state = self.name + b":" + found, self.name + COMPLETED

    def story(self) -> bytes | None:
        """What it is told of its flow when it is handed out, a member of a JSON object; None: it must be looked up."""
        _, head, context = self.plan
        if self.results is None or self.waits or context is None:
            return None
        return b'"flow":%b%b,"context":%b,"results":{%b},"states":{%b},"signals":{}}' % (
            head, self.name or b"null", context, self.results, self.states,
        )  # fmt: skip


NOWHERE = (0, 0)


class Graph:
    """The steps that are remembered, by their ids."""

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {}
        self._planted: deque[tuple[int, Sequence[int]]] = deque()
        """When steps came that were remembered, and which."""
        self.get = self._nodes.get

    def plant(self, steps: Sequence[int], now_ms: int) -> bool:
        """Whether so many more are remembered, which come now."""
        planted = self._planted
        while planted and (planted[0][0] <= now_ms - OLD_MS or len(planted) >= NODES_MAX):
            self.forget(planted.popleft()[1])
        if len(self._nodes) + len(steps) > NODES_MAX:
            return False
        planted.append((now_ms, steps))
        return True

    def put(self, step: int, node: Node) -> None:
        """Remember a step."""
        self._nodes[step] = node

    def put_after(self, step: int, parents: Iterable[int]) -> None:
        """A step comes after these."""
        for parent in parents:
            node = self.get(parent)
            if node is not None:
                node.after.append(step)

    def completed(self, steps: Iterable[int], edges_max: int) -> dict[int, Node]:
        """Those of these that are known to have completed, with so many in all that come after them at most."""
        found: dict[int, Node] = {}
        get, edges = self.get, 0
        for step in steps:
            node = get(step)
            if node is not None and node.result_bytes is not None and edges + len(node.after) <= edges_max:
                edges += len(node.after)
                found[step] = node
        return found

    def tell(self, ended: Iterable[Node], told: dict[int, int]) -> None:
        """Tell those that come after these that they completed, and count of how many each is told."""
        get = self.get
        for parent in ended:
            result, state = parent.result, parent.state
            for step in parent.after:
                told[step] = told.get(step, 0) + 1
                node = get(step)
                if node is None or result == b"" or (results := node.results) is None:
                    continue
                if result is None or len(results) + len(node.states) > HEARD_BYTES_MAX:
                    node.results = None
                elif results:
                    node.results, node.states = results + b"," + result, node.states + b"," + state
                else:
                    node.results, node.states = result, state

    def unsure(self, step: int) -> None:
        """What a step is told must be looked up."""
        node = self.get(step)
        if node is not None:
            node.results = None

    def forget(self, steps: Iterable[int]) -> None:
        """Look these up from now on."""
        for step in steps:
            self._nodes.pop(step, None)

    def clear(self) -> None:
        """Forget all, as what some were told may not be so any more."""
        self._nodes.clear()
        self._planted.clear()

    def __len__(self) -> int:
        return len(self._nodes)
