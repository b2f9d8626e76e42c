"""The workers of a pool that live, the slots for those to come, and who of them may be given jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from supervisor.pool.fork import Place
from supervisor.pool.member import Member
from supervisor.tree.commands import Start
from supervisor.tree.model import Child, Status, Tree


class Crew:
    """Members by child; `undead` are those that were killed, given up, and are still there."""

    def __init__(self) -> None:
        self.places: deque[Place] = deque()
        self.waiting: deque[Start] = deque()
        """Starts that were ordered while there was no slot."""
        self.undead: list[Member] = []
        self._members: dict[str, Member] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))

    def add(self, member: Member) -> None:
        """Take a new worker on."""
        self._members[member.child] = member

    def get(self, child: str) -> Member | None:
        """The living worker that is this child of the tree."""
        return self._members.get(child)

    def on_slot(self, slot: int) -> Member | None:
        """The living worker on this slot."""
        return next((member for member in self if member.slot == slot), None)

    def remove(self, member: Member) -> None:
        """Forget a worker that is gone."""
        if self._members.get(member.child) is member:
            del self._members[member.child]
        if member in self.undead:
            self.undead.remove(member)

    def give_up(self, member: Member) -> None:
        """Go on without a worker that does not die, and keep an eye on it."""
        self.remove(member)
        self.undead.append(member)

    def pids(self) -> frozenset[int]:
        """The numbers of all that are watched."""
        return frozenset(member.pid for member in (*self._members.values(), *self.undead))

    def drop_waiting(self, child: str) -> bool:
        """Take back a start that still waits for a slot; whether there was one."""
        kept = [start for start in self.waiting if start.child != child]
        dropped = len(kept) < len(self.waiting)
        self.waiting = deque(kept)
        return dropped


def to_announce(crew: Crew, tree: Tree, workers: int) -> list[Member]:
    """Ready workers that may now be given jobs, so that as many as the queue wants can be; others stand by.

    Those that only finish their last job, as fewer are wanted now, take nobody's place.
    """
    dropping_out = {child.id for child in tree.children if child.leaving}
    room = workers - sum(member.announced and member.child not in dropping_out for member in crew)
    ready = [member for member in crew if not member.announced and _is_ready(tree, member)]
    return sorted(ready, key=lambda member: member.run)[: max(room, 0)]


def spared(crew: Crew, *, standing_by: bool) -> Callable[[Child], tuple[int, int]]:
    """In which order workers go when fewer are wanted: idle ones before busy ones, new ones before old ones.

    Where some stand by without jobs, as many must be left, so those at work go before them.
    """

    def order(child: Child) -> tuple[int, int]:
        member = crew.get(child.id)
        if member is None:
            place = 0
        elif not member.announced:
            place = 3 if standing_by else 2
        elif member.cells():
            place = 2 if standing_by else 3
        else:
            place = 1
        return place, -child.run

    return order


def _is_ready(tree: Tree, member: Member) -> bool:
    child = tree.child(member.child)
    return child is not None and child.run == member.run and child.status is Status.READY
