"""The keeper in this process: the real one, on a database of its own, turned by hand and told the time."""

from __future__ import annotations

import socket
import tempfile
from functools import cache
from pathlib import Path
from threading import get_ident

import msgspec

from supervisor.config.spec import Queue, Spec
from supervisor.keeper.archiving import AGAIN_MS, NEVER_MS
from supervisor.keeper.gathering import batches_due_ms
from supervisor.keeper.main import Keeper
from supervisor.keeper.state import State
from supervisor.observe.log import Log
from supervisor.store.open import open_store
from supervisor.store.reader import Reader
from supervisor.store.sqlite.store import SqliteStore
from supervisor.testing.clock import VirtualClock
from supervisor.unix.clock import boot_id, boot_ms, wall_ms
from supervisor.wire.control import Link

NO_JITTER = 0.5
"""The chance at which a retry comes exactly after its backoff."""
TURNS_MAX = 10_000


class InProcessKeeper(Keeper):
    """The loop of the keeper without a process: `rest` turns it until nothing is left to do at this time.

    Its master and the foremen are links that a test holds, its clients one end of a socketpair each.
    """

    def __init__(self, spec: Spec, folder: Path, clock: VirtualClock) -> None:
        self.clock = clock
        self._thread = get_ident()
        with clock.ruling():
            log = Log(str(folder / "keeper.log"), "debug", "text", wall_ms)
            log.role = "keeper"
            store = _new_store(spec)
            super().__init__(State(_without_alerter(spec), store, log, boot_id(), boot_ms()))
            self.state.chance = lambda: NO_JITTER
            self.listen(())
            self._ours: list[Link] = []
            self.private.add_master(self._linked())
        self.whole = Reader(store.connection, self._unredacted)
        """Reads what `redact` hides, too: a test wants to know what was enqueued."""

    def foreman(self, pool: str) -> Link:
        """Be the foreman of a pool: what is sent here, the keeper hears in its next turn."""
        self.private.add_foreman(pool, self._linked())
        return self._ours[-1]

    def connect(self) -> socket.socket:
        """The client's end of a new connection; it never blocks."""
        ours, keepers = socket.socketpair()
        ours.setblocking(False)
        self.server.adopt(keepers)
        return ours

    def rest(self) -> None:
        """Turn until nothing is to be done before the clock moves or somebody asks.

        Raises:
            RuntimeError: it does not come to rest; the database cannot be written; this is another thread.
        """
        if get_ident() != self._thread:
            raise RuntimeError("a harness and its client are used from the thread that made it, and from no other")
        with self.clock.ruling():
            for _ in range(TURNS_MAX):
                self._hear(0)
                self.turn()
                self._empty_links()
                if self.state.failure is not None:
                    raise RuntimeError(f"the database cannot be written: {self.state.failure}")
                if not (self.server.requests or self._wanted() or self._pass_due(boot_ms())):
                    return
        raise RuntimeError(f"the keeper did not come to rest in {TURNS_MAX} turns")

    def keep_house(self) -> None:
        """Let chores that go on page by page, such as retention, come to their end at this time."""
        chores, archiving = self.chores, self.state.archiving
        self.rest()
        for _ in range(TURNS_MAX):
            soon_ms = self.clock.boot_ms() + AGAIN_MS
            if min(chores.prune_at_ms, chores.prune_flows_at_ms, archiving.trim_at_ms) > soon_ms:
                return
            chores.prune_at_ms = chores.prune_flows_at_ms = archiving.trim_at_ms = self.clock.boot_ms()
            self.rest()

    def next_ms(self, *, schedules: bool) -> int | None:
        """When, on the boot clock, something comes to be done about a job; None: never, as things are.

        `schedules`: whether what makes jobs by itself counts: schedules, and alerts that go to a queue.
        """
        now_ms, state = self.clock.boot_ms(), self.state
        with self.clock.ruling(), state.store.transaction(wall_ms()) as tx:
            on_the_wall = [tx.next_due_ms(), tx.asleep_until_ms, tx.next_expiry_ms()]
            on_the_wall += [tx.next_fire_ms()] if schedules else []
        offset_ms = now_ms - self.clock.wall_ms
        times = [at + offset_ms for at in on_the_wall if at is not None]
        alerts_ms = state.alerts.desk.next_ms(now_ms) if schedules else None
        times += [
            at
            for at in (
                state.flush_at_ms, state.withdraw_at_ms, state.standstill.at_ms, state.tasks.unblock_at_ms,
                state.archiving.replay_at_ms, self.service.waits.next_ms, state.lending.next_ms, alerts_ms,
                *(pending.until_ms for pending, _ in state.unfit), *batches_due_ms(state),
            )
            if at is not None
        ]  # fmt: skip
        return min((at for at in times if now_ms < at < NEVER_MS), default=None)

    def close(self) -> None:
        """Close all that is open. The files are whoever's who has named the folder."""
        for slot in list(self.state.slots.values()):
            self.state.drop_slot(slot)
        for link in (*self.state.links.values(), self.state.control, *self._ours):
            if link is not None:
                link.sock.close()
        self.server.close()
        self.selector.close()
        self.state.store.close()
        self.state.log.close()

    def _look_after(self, now_ms: int) -> None:
        """Nothing: progress, checkpoints and the identity of the file concern a process and a disk."""

    def _linked(self) -> socket.socket:
        mine, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.append(Link(mine))
        return keepers

    def _empty_links(self) -> None:
        """What the keeper tells master and foremen is for processes that are not here."""
        for link in self._ours:
            for _ in link.receive():
                pass

    def _unredacted(self, name: str) -> Queue | None:
        queue = self.state.spec.queue(name)
        return None if queue is None else msgspec.structs.replace(queue, redact=())


def _without_alerter(spec: Spec) -> Spec:
    """The same without a command for alerts: nobody runs it here, and those for a queue do not wait for it."""
    return msgspec.structs.replace(spec, alerts=msgspec.structs.replace(spec.alerts, command=None))


def _new_store(spec: Spec) -> SqliteStore:
    """An empty database where the configuration puts it."""
    path = Path(spec.daemon.database)
    path.write_bytes(_empty_database())
    return open_store(str(path), spec.daemon.durability, create=False, migrate=False)


@cache
def _empty_database() -> bytes:
    """The file of an empty database: to make its tables takes longer than most tests."""
    with tempfile.TemporaryDirectory(prefix="jobsup-") as folder:
        path = Path(folder) / "jobs.db"
        open_store(str(path), "relaxed", create=True, migrate=True).close()
        return path.read_bytes()
