"""What a foreman says to keeper and master, and what it must say again until it is answered."""

from __future__ import annotations

import os

import msgspec

from supervisor.config.spec import Queue
from supervisor.policy.tasks import Known
from supervisor.pool.burial import Unanswered
from supervisor.pool.crew import Crew
from supervisor.pool.member import Member
from supervisor.tree.model import CircuitState, Tree
from supervisor.wire import control
from supervisor.wire.control import Link, memory_file

PROGRESS_MS = 5_000
CONGESTED_MS = 10


class Voice:
    """Both links of a foreman. `unpreloaded` is why its workers import by themselves, if they do."""

    def __init__(self, queue: Queue, master: Link, keeper: Link, unpreloaded: str | None) -> None:
        self._queue = queue
        self.master = master
        self.keeper = keeper
        self.unanswered = Unanswered(keeper)
        self._unpreloaded = unpreloaded
        self._progress_at_ms = 0
        self._known: tuple[Known, ...] | None = None

    def say(self, message: control.AnyMessage) -> None:
        """Tell both."""
        self.keeper.send(message)
        self.master.send(message)

    def publish(self, known: tuple[Known, ...]) -> None:
        """Tell the keeper what tasks the code knows, if it has not been told so before."""
        if known != self._known:
            self._known = known
            self._tell_known()

    def _tell_known(self) -> None:
        if self._known is None:
            return
        fd = memory_file("tasks", msgspec.json.encode(self._known))
        try:
            self.keeper.send(control.TasksKnown(self._queue.name), [fd])
        finally:
            os.close(fd)

    def introduce(self, member: Member, tree: Tree) -> None:
        """A worker was forked on its slot."""
        child = tree.child(member.child)
        restarts = child.starts - 1 if child else 0
        self.say(control.Started(member.slot, member.pid, member.start_time, restarts))

    def announce(self, member: Member) -> None:
        """A worker can take jobs."""
        member.announced = True
        self.keeper.send(control.WorkerReady(member.slot))

    def state(self, tree: Tree, detail: str | None) -> None:
        """How the pool stands; `detail` is what the last worker that died left."""
        group = tree.groups[0]
        closed = group.circuit is CircuitState.CLOSED
        self.say(
            control.PoolState(
                self._queue.name,
                group.circuit.value,
                self._unpreloaded if closed else group.reason,
                None if closed else detail,
                preloaded=self._unpreloaded is None,
            )
        )

    def again(self, crew: Crew, tree: Tree, detail: str | None, now_ms: int) -> None:
        """A new keeper must hear everything that the old one knew."""
        for member in crew:
            self.introduce(member, tree)
            if member.announced:
                self.keeper.send(control.WorkerReady(member.slot))
        self.keeper.send(control.Stopping(tuple(member.slot for member in crew if member.leaving)))
        self.state(tree, detail)
        self._tell_known()
        self.unanswered.repeat(now_ms, at_once=True)

    def turn(self, now_ms: int) -> None:
        """Say what is due: that our loop turns, what was not answered, what had to wait."""
        if now_ms >= self._progress_at_ms:
            self._progress_at_ms = now_ms + PROGRESS_MS
            self.master.send(control.Progress())
        self.unanswered.repeat(now_ms)
        self.keeper.flush()
        self.master.flush()

    def next_ms(self, now_ms: int) -> int:
        """When there will be something to say."""
        congested = self.keeper.congested or self.master.congested
        moments = (
            self._progress_at_ms,
            self.unanswered.next_ms() or self._progress_at_ms,
            now_ms + CONGESTED_MS if congested else self._progress_at_ms,
        )
        return min(moments)
