"""Keeper and workers without master and foreman: both of those are played by the test, one step at a time.

A Rig forks real keepers and real workers on real slots and does by hand what a master and a foreman would: so a
test can kill a keeper between two steps, certify a death in its own words, or put a forger in a worker's place.
`pump` is the only place where a foreman's duties are done; `until` pumps until something is true.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, TypeVar

from supervisor.config.spec import Backoff, Daemon, Intake, Log, Queue, Spec
from supervisor.keeper import main as keeper_main
from supervisor.observe import failpoint
from supervisor.unix import clock, lock
from supervisor.unix.inheritance import KeeperInheritance, WorkerInheritance
from supervisor.unix.memory import Memory
from supervisor.unix.session import kill_session
from supervisor.unix.slot import Slot, discard_slot, make_slot, open_directory, open_memory
from supervisor.wire import control
from supervisor.wire.control import Link, LinkClosed
from supervisor.worker import main as worker_main
from supervisor.worker.executors.load import load
from tests.support.ledger import Acknowledged, Ledger
from tests.support.load import RawClient

T = TypeVar("T")

HANDLERS = str(Path(__file__).parent / "handlers")
ROOT = Path(__file__).resolve().parents[2]
REPEAT_S = 0.2
QUICK = Backoff(base_ms=20, factor=1.0, max_ms=20, jitter=0.0)


class Hand(NamedTuple):
    """A worker that the rig forked."""

    slot: Slot
    pid: int
    start_time: int
    pidfd: int


WorkerMain = Callable[[WorkerInheritance], int]


def a_queue(path: Path, name: str = "q", *, handler: str = "ledgered:run", **options: Any) -> Queue:
    """A queue of ledgered handlers; its ledger is PATH/ledger."""
    given: dict[str, Any] = {"workers": 2, "backoff": QUICK, "env": {"LEDGER": str(path / "ledger")}} | options
    return Queue(name=name, handler=handler, python_path=(HANDLERS,), **given)


class Rig:
    """A master and the foremen of all queues, in one object that does nothing unless it is pumped."""

    def __init__(
        self, path: Path, queues: Iterable[Queue] = (), *, durability: str = "full", acknowledge: str = "committed",
        flush_interval_ms: int = 5, environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        for folder in ("run", "acks"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        listed = list(queues) or [a_queue(path)]
        self.path = path
        self.database = path / "jobs.db"
        self.spec = Spec(
            daemon=Daemon(database=str(self.database), run_dir=str(path / "run"), durability=durability),  # type: ignore[arg-type]
            intake=Intake(acknowledge=acknowledge, flush_interval_ms=flush_interval_ms),  # type: ignore[arg-type]
            queues={queue.name: queue for queue in listed},
            log=Log(target=str(path / "keeper.log"), level="debug"),
        )
        self.ledger = Ledger(path / "ledger")
        self.acks = Acknowledged(path / "acks")
        self.environ = dict(environ or {})
        self.replace = True
        self.worker_main: WorkerMain = worker_main.run
        self.hands: dict[int, Hand] = {}
        self.ready: set[int] = set()
        self.spare: dict[str, list[Slot]] = {queue.name: [] for queue in listed}
        self.slots: dict[int, Slot] = {}
        self.certificates: dict[int, tuple[str, control.Certificate]] = {}
        self.expected: dict[int, str] = {}
        self.answered: dict[int, int] = {}
        self.heard: list[Any] = []
        self.keeper = 0
        self._numbers = 0
        self._keeper_fd = -1
        self._repeat_at = 0.0
        self._ready_fds: dict[int, int] = {}
        self._bells: dict[int, int] = {}
        self._loads: list[subprocess.Popen[bytes]] = []
        self._lock_fd = lock.take_lock(str(self.database), lock.DAEMON)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path / "run" / "jobsup.sock"))
        self._listener.listen(128)
        self._lifeline = os.pipe()
        self._links: dict[str, tuple[Link, socket.socket]] = {}
        for queue in listed:
            mine, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._links[queue.name] = (Link(mine), keepers)
        self._control: Link | None = None
        self._epoch = clock.boot_ms()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_loads()
        for hand in self.hands.values():
            os.kill(hand.pid, signal.SIGKILL)  # one that was just forked may have no session of its own yet
            kill_session(hand.pid)
            os.waitpid(hand.pid, 0)
            os.close(hand.pidfd)
        if self.keeper:
            os.kill(self.keeper, signal.SIGKILL)
            os.waitpid(self.keeper, 0)
            os.close(self._keeper_fd)
        for fd in (*self._ready_fds.values(), *self._bells.values(), *self._lifeline, self._lock_fd):
            os.close(fd)
        for slot in self.slots.values():
            discard_slot(slot)
        for mine, keepers in self._links.values():
            mine.close()
            keepers.close()
        if self._control:
            self._control.close()
        self._listener.close()
        if error is not None:
            sys.stderr.write(f"--- log of the keeper\n{self.log[-20_000:]}\n")

    @property
    def log(self) -> str:
        """What keepers logged."""
        path = self.path / "keeper.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def socket(self) -> str:
        """The public socket."""
        return str(self.path / "run" / "jobsup.sock")

    # -- the master's part -------------------------------------------------------------------------------------

    def start_keeper(self, **failpoints: str) -> None:
        """Fork a keeper on everything that is open, and wait until it is ready, unless it dies first.

        `failpoints` arms points in it, their dots written as `__`.
        """
        assert not self.keeper, "a keeper runs"
        if self._control:
            self._control.close()
        mine, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = Link(mine)
        given = KeeperInheritance(
            self.spec, [self._listener], keepers, self._lifeline[0], list(self.slots.values()),
            {pool: end for pool, (_, end) in self._links.items()}, clock.boot_id(), self._epoch,
        )  # fmt: skip
        pid = os.fork()
        if not pid:
            self._as_child(failpoints, lambda: keeper_main.run(given))
        keepers.close()
        self.keeper, self._keeper_fd = pid, os.pidfd_open(pid)
        self.heard.clear()
        self.until(lambda: self.said(control.Ready) or not self.keeper, 20, "a keeper that is ready")

    def _as_child(self, failpoints: Mapping[str, str], entry: Callable[[], int]) -> NoReturn:
        status = 99
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL)
            os.close(self._lifeline[1])
            if self._control:
                os.close(self._control.fileno())
            for mine, _ in self._links.values():
                os.close(mine.fileno())
            for process in self._loads:
                assert process.stdin is not None
                os.close(process.stdin.fileno())
            os.environ.update(self.environ)
            armed = ",".join(f"{name.replace('__', '.')}={action}" for name, action in failpoints.items())
            if armed:
                os.environ["JOBSUP_FAILPOINTS"] = armed
            failpoint.rearm(os.environ)
            errors = os.open(self.path / "stderr", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.dup2(errors, 2)
            status = entry()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 98
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def kill_keeper(self) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(self.keeper, signal.SIGKILL)
        self._reap_keeper()

    def _reap_keeper(self) -> int:
        _, status = os.waitpid(self.keeper, 0)
        os.close(self._keeper_fd)
        self.keeper, self._keeper_fd = 0, -1
        return os.waitstatus_to_exitcode(status)

    def finish(self, timeout: float = 20) -> int:
        """Drain, stop the workers, let the keeper finish; its exit status."""
        self.replace = False
        self.tell(control.Drain())
        self.stop_workers()
        self.tell(control.Finish(5_000))
        assert select.select([self._keeper_fd], [], [], timeout)[0], "the keeper did not finish"
        return self._reap_keeper()

    def stop_workers(self, timeout: float = 20) -> None:
        """SIGTERM to every worker, and wait until each was judged."""
        for number, hand in self.hands.items():
            self.expected[number] = "stop"
            os.kill(hand.pid, signal.SIGTERM)
        self.until(lambda: not self.hands and not self.certificates, timeout, "the end of all workers")

    def tell(self, message: Any, descriptors: Iterable[int] = ()) -> None:
        """Say something to the keeper as its master."""
        assert self._control is not None
        self._control.send(message, list(descriptors))

    def say(self, pool: str, message: Any) -> None:
        """Say something to the keeper as the pool's foreman."""
        self._links[pool][0].send(message)

    def said(self, kind: type[T]) -> list[T]:
        """What this keeper has said of a kind, on any link."""
        return [message for message in self.heard if isinstance(message, kind)]

    def a_slot(self, pool: str) -> Slot:
        """Make a slot and hand it to the keeper."""
        self._numbers += 1
        number = self._numbers
        slot = make_slot(self.spec.daemon.run_dir, number, pool, clock.boot_id())
        self.slots[number] = slot
        if self.keeper:
            given = control.SlotGiven(number, pool, slot.incarnation, slot.directory)
            self.tell(given, [slot.keeper_end.fileno(), slot.worker_end.fileno()])
        return slot

    # -- a foreman's part --------------------------------------------------------------------------------------

    def spawn(self, pool: str = "q", main: WorkerMain | None = None) -> Hand:
        """Fork a worker on a fresh slot, and announce it."""
        queue = self.spec.queues[pool]
        slot = self.a_slot(pool)
        ready_read, ready_write = os.pipe()
        bell_read, bell_write = os.pipe()
        entry = main or self.worker_main
        pid = os.fork()
        if not pid:
            given = WorkerInheritance(
                queue, slot.worker_end, open_directory(slot.directory), ready_write, bell_write, None, load
            )
            for fd in (*self._kept_from_workers(), ready_read, bell_read):
                os.close(fd)
            self._as_child({}, lambda: entry(given))
        os.close(ready_write)
        os.close(bell_write)
        hand = Hand(slot, pid, lock.process_start(pid), os.pidfd_open(pid))
        self.hands[slot.number] = hand
        self._ready_fds[slot.number] = ready_read
        self._bells[slot.number] = bell_read
        self.say(pool, control.Started(slot.number, pid, hand.start_time, 0))
        return hand

    def _kept_from_workers(self) -> list[int]:
        fds = [self._lifeline[0], self._lock_fd, self._listener.fileno()]
        fds += [hand.pidfd for hand in self.hands.values()]
        return fds + ([self._keeper_fd] if self.keeper else [])

    def spawn_all(self) -> None:
        """As many workers as the queues ask for, ready."""
        for queue in self.spec.queues.values():
            for _ in range(queue.workers):
                self.spawn(queue.name)
        self.until(lambda: self.ready >= self.hands.keys(), 20, "ready workers")

    def kill_worker(self, hand: Hand, cause: str = "exit") -> None:
        """SIGKILL; what `pump` then certifies is a death of this cause."""
        self.expected[hand.slot.number] = cause
        os.kill(hand.pid, signal.SIGKILL)

    def certify(self, hand: Hand, cause: str, **facts: Any) -> None:
        """Certify something of a worker, whatever is true of it; repeated until it is answered."""
        slot = hand.slot
        certificate = control.Certificate(slot.number, slot.incarnation, hand.pid, cause, **facts)
        self.certificates[slot.number] = (slot.pool, certificate)
        self.say(slot.pool, certificate)

    def pump(self, wait_s: float = 0.01) -> None:
        """Do what a foreman and a master do: hear, reap, certify, replace, repeat."""
        watched: list[Any] = [*(link for link, _ in self._links.values()), *self._ready_fds.values(),
                              *(hand.pidfd for hand in self.hands.values()), *self._bells.values()]  # fmt: skip
        if self.keeper:
            assert self._control is not None
            watched += [self._control, self._keeper_fd]
        ready = select.select(watched, [], [], wait_s)[0]
        if self.keeper and self._keeper_fd in ready:
            self.heard.append(self._reap_keeper())
        for link, pool in [(self._control, None), *((link, pool) for pool, (link, _) in self._links.items())]:
            if link is not None and link in ready:
                self._hear(link, pool)
        for fd in self._bells.values():
            if fd in ready:
                os.read(fd, 512)
        self._see_ready(ready)
        self._reap(ready)
        self._repeat()

    def _hear(self, link: Link, pool: str | None) -> None:
        try:
            for message, _ in link.receive():
                self.heard.append(message)
                self._obey(message, pool)
        except LinkClosed:
            return

    def _obey(self, message: Any, pool: str | None) -> None:
        match message:
            case control.Hello() if pool is not None:
                self._announce(pool)
            case control.Answered(slot):
                known = self.certificates.get(slot)
                if known and known[1].gone:
                    del self.certificates[slot]
                self.answered[slot] = self.answered.get(slot, 0) + 1
            case control.SlotClosed(slot) if slot in self.slots:
                discard_slot(self.slots.pop(slot))
            case control.RecycleWorker(slot) if slot in self.hands and slot not in self.expected:
                self.kill_worker(self.hands[slot], "stop")

    def _announce(self, pool: str) -> None:
        """Tell a new keeper of every live worker, and again of every death that was not answered."""
        for number, hand in self.hands.items():
            if hand.slot.pool == pool and number not in self.certificates:
                self.say(pool, control.Started(number, hand.pid, hand.start_time, 0))
                if number in self.ready:
                    self.say(pool, control.WorkerReady(number))

    def _see_ready(self, ready: list[Any]) -> None:
        for number, fd in list(self._ready_fds.items()):
            if fd not in ready:
                continue
            if os.read(fd, 1) == b"r":
                self.ready.add(number)
                self.say(self.hands[number].slot.pool, control.WorkerReady(number))
            os.close(fd)
            del self._ready_fds[number]

    def _reap(self, ready: list[Any]) -> None:
        for number, hand in list(self.hands.items()):
            if hand.pidfd in ready:
                _, status, usage = os.wait4(hand.pid, 0)
                kill_session(hand.pid)
                os.close(hand.pidfd)
                del self.hands[number]
                self.ready.discard(number)
                os.close(self._bells.pop(number))
                code = os.waitstatus_to_exitcode(status)
                self.certify(
                    hand, self.expected.pop(number, "exit"), exit_code=code if code >= 0 else None,
                    signal=-code if code < 0 else None, rss_peak_bytes=usage.ru_maxrss * 1024,
                )  # fmt: skip
                if self.replace:
                    self.spawn(hand.slot.pool)

    def _repeat(self) -> None:
        now = time.monotonic()
        if self.keeper and now >= self._repeat_at:
            self._repeat_at = now + REPEAT_S
            for pool, certificate in self.certificates.values():
                self.say(pool, certificate)
        for link in (self._control, *(link for link, _ in self._links.values())):
            if link is not None:
                link.flush()

    # -- what a test does --------------------------------------------------------------------------------------

    def until(self, condition: Callable[[], T], timeout: float = 20, what: str = "the condition") -> T:
        """Pump until the condition holds."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() >= deadline:
                raise AssertionError(f"{what} did not come true within {timeout} s; last value {value!r}")
            self.pump()
        return value

    def pump_for(self, seconds: float) -> None:
        """Pump for a time: the moment of a kill is chosen by it, nothing is waited for."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.pump(left)

    def client(self) -> RawClient:
        """A client that speaks the protocol by itself."""
        return RawClient(self.socket)

    def ask(self, op: str, **members: Any) -> Any:
        """One request on a connection of its own; its `ok`."""
        client = self.client()
        try:
            answer = client.ask(op, **members)
        finally:
            client.close()
        assert "ok" in answer, answer
        return answer["ok"]

    def enqueue(self, payloads: Iterable[Any], queue: str = "q", **options: Any) -> list[int]:
        """Enqueue a group; its ids."""
        jobs = [{"payload": payload, **options} for payload in payloads]
        ids: list[int] = self.ask("enqueue", queue=queue, key=os.urandom(8).hex(), jobs=jobs)["ids"]
        return ids

    def counts(self, queue: str = "q") -> dict[str, int]:
        """What status says of a queue."""
        counts: dict[str, int] = self.ask("status")["queues"][queue]
        return counts

    def drained(self, queue: str = "q") -> bool:
        """Whether every job of the queue is final."""
        counts = self.counts(queue)
        return not any(counts[state] for state in ("queued", "scheduled", "running"))

    def job(self, job_id: int) -> dict[str, Any]:
        """All that the keeper says about a job."""
        shown: dict[str, Any] = self.ask("job", job=job_id)
        return shown

    def memory_of(self, hand: Hand) -> Memory:
        """The memory of a worker's slot, as a foreman maps it."""
        folder = open_directory(hand.slot.directory)
        fd = open_memory(folder)
        try:
            return Memory(fd)
        finally:
            os.close(fd)
            os.close(folder)

    def load(self, mode: str, *options: object) -> None:
        """Start a client that enqueues until `end_loads`."""
        name = self.path / "acks" / f"{mode}-{len(self._loads)}"
        command = [sys.executable, "-m", "tests.support.load", mode, self.socket, str(name), *map(str, options)]
        self._loads.append(subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT))

    def end_loads(self, timeout: float = 30) -> None:
        """Let every load process end."""
        for process in self._loads:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._loads:
            process.wait(timeout)
        self._loads.clear()
