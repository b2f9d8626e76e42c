"""What master, keeper and foremen tell each other: one message per SEQPACKET packet, descriptors beside it.

Packets are not records: a peer can be killed with some unread. So every message is either repeated until it is
answered (Certificate), repeated when the peer says Hello again (Started, WorkerReady), or states a whole
(SpecChanged, TreeChanged), never a difference.
"""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from supervisor.config.spec import Scale, WorkerRange

PACKET_BYTES_MAX = 192 * 1024
DESCRIPTORS_MAX = 8
LATER = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS, errno.EMFILE, errno.ENFILE}
)
"""There is no room now: the message waits. Any other error means that the peer is gone."""


class Message(msgspec.Struct, frozen=True, tag_field="m", tag=True, array_like=False):
    """Base of all control messages."""


class Hello(Message, frozen=True):
    """Keeper to foreman: I am new; tell me again what I must know. Foremen re-announce their workers."""


class Ready(Message, frozen=True):
    """Keeper or foreman to master: I am up."""


class Progress(Message, frozen=True):
    """Keeper (every second) or foreman (every few seconds) to master: my loop turns."""


class SlotGiven(Message, frozen=True):
    """Master to keeper (descriptors: keeper end, worker end) or to foreman (worker end, directory)."""

    slot: int
    pool: str
    incarnation: int
    directory: str


class SlotClosed(Message, frozen=True):
    """Keeper to master: the verdict on this slot is committed; close and delete it."""

    slot: int


class LinkGiven(Message, frozen=True):
    """Master to keeper (descriptor: the keeper's end): a new foreman of this pool is at the other end."""

    pool: str


class LinkGone(Message, frozen=True):
    """Master to keeper: the pool has no foreman any more; close the link."""

    pool: str


class SpecChanged(Message, frozen=True):
    """Master to keeper (descriptor: a memfd with the encoded spec): work by this one from now on."""

    error: str | None = None
    """Why the newest reload was refused; then there is no descriptor and the old spec stays."""


class TreeChanged(Message, frozen=True):
    """Master to keeper (descriptor: a memfd with a JSON list): the processes as the master sees them."""


class Drain(Message, frozen=True):
    """Master to keeper: lease no more; go on accepting and settling."""


class Finish(Message, frozen=True):
    """Master to keeper: the pools are gone and the listener is closed; commit what is accepted, then exit 0."""

    within_ms: int


class ScopeGiven(Message, frozen=True):
    """Master to keeper: the listening socket of a scope comes beside this; a new keeper inherits it."""

    scope: str


class ScopeGone(Message, frozen=True):
    """Master to keeper: a scope has left the configuration; whoever is connected to it is sent away."""

    scope: str


class ReloadAsked(Message, frozen=True):
    """Keeper to master: a client asks for a reload."""

    request: int


RELOADED = ("added", "removed", "changed", "retuned", "settings")
"""What a reload did: members of ReloadDone, and of what people and the log are told, each a list of names."""


class ReloadDone(Message, frozen=True):
    """Master to keeper: the answer to ReloadAsked, or what a SIGHUP did (request 0)."""

    request: int
    problems: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    retuned: tuple[str, ...] = ()
    """Queues of which only that has changed which the keeper reads, or the number of workers: workers run on."""
    settings: tuple[str, ...] = ()
    """Other tables that differ, such as "alerts" and "schedules.nightly"."""
    warnings: tuple[str, ...] = ()


class ProbeAsked(Message, frozen=True):
    """Keeper to foreman and to master, master to foreman: try the pool's circuit now (after `resume`, or a reload)."""

    pool: str


class Started(Message, frozen=True):
    """Foreman to keeper and master: a worker has been forked on this slot; it leads a session of its own."""

    slot: int
    pid: int
    start_time: int
    restarts: int


class WorkerReady(Message, frozen=True):
    """Foreman to keeper: the worker on this slot can take jobs."""

    slot: int


class PoolState(Message, frozen=True):
    """Foreman to keeper and master, master to keeper: how the pool stands. `circuit` is closed, open or probing."""

    pool: str
    circuit: str
    reason: str | None = None
    detail: str | None = None
    preloaded: bool = True


class TasksKnown(Message, frozen=True):
    """Foreman to keeper (descriptor: a memfd with the list as JSON): what tasks the code of the pool knows."""

    pool: str


class Stopping(Message, frozen=True):
    """Foreman to keeper: these workers take no more; lease nothing to their slots."""

    slots: tuple[int, ...]


class Stop(Message, frozen=True):
    """Master to foreman: workers finish their current jobs within the grace, then you exit 0."""

    grace_ms: int


class Certificate(Message, frozen=True):
    """How a worker ended, from who reaped it. Repeated until Answered.

    `cause`: `exit` (by itself, or a signal we did not send), `timeout` (the deadline ladder), `cancelled` (asked
    by a client), `stop` (shutdown, reload, recycling: we ended it), `foreman` (its foreman or master died).
    `jobs` are the ids that the ladder was climbed for. `gone` false: it did not die of SIGKILL yet; a second
    certificate follows when it has.
    """

    slot: int
    incarnation: int
    pid: int
    cause: str
    exit_code: int | None = None
    signal: int | None = None
    jobs: tuple[int, ...] = ()
    gone: bool = True
    rss_peak_bytes: int | None = None
    cpu_s: float | None = None
    oom: bool = False
    age_s: float | None = None
    stacks: str | None = None
    last_output: str | None = None


class Answered(Message, frozen=True):
    """Keeper to whoever certified: the verdict is committed, stop repeating.

    `gone` repeats the certificate's. `pardoned`: the verdict charges a suspect that ran alone, so this death says
    nothing about the pool.
    """

    slot: int
    gone: bool = True
    pardoned: bool = False


class CancelRunning(Message, frozen=True):
    """Keeper to foreman: climb the ladder for this job; the certificate or the outcome then says cancelled."""

    slot: int
    id: int
    token: int


class RecycleWorker(Message, frozen=True):
    """Keeper to foreman: this worker's ring is damaged or it shall leave; end it and start another."""

    slot: int
    reason: str


class AlerterGiven(Message, frozen=True):
    """Master to keeper (descriptor: the keeper's end): a new alerter is at the other end."""


class AlerterGone(Message, frozen=True):
    """Master to keeper: there is no alerter any more; close the link."""


class AlertsKnown(Message, frozen=True):
    """Alerter to keeper, answering Hello, or keeper to a new alerter: what was told, so that it is not told again.

    `open` are conditions as (kind, queue, since when in wall ms); `sent_ms` is when the last messages went, on the boot
    clock, oldest first; `error` is why the newest one could not be told.
    """

    open: tuple[tuple[str, str | None, int], ...] = ()
    sent_ms: tuple[int, ...] = ()
    last_at_ms: int | None = None
    error: str | None = None


class Tell(Message, frozen=True):
    """Keeper to alerter (descriptor: a memfd with the alert as JSON): run the command for it.

    Kept by the keeper until it is Told, and sent again to a new alerter.
    """

    number: int
    kind: str
    state: str
    queue: str | None
    since_ms: int


class Told(Message, frozen=True):
    """Alerter to keeper: the command has done its work, or why it could not, all tries included."""

    number: int
    error: str | None = None


class RelayGiven(Message, frozen=True):
    """Master to keeper (descriptor: the keeper's end): a new relay of this outbox is at the other end."""

    outbox: str


class RelayGone(Message, frozen=True):
    """Master to keeper: the outbox has no relay any more; close the link."""

    outbox: str


class OutboxOwner(Message, frozen=True):
    """Keeper to relay: I am new, and this is the number of my database; begin anew with what is not answered."""

    owner: int


class OutboxOpened(Message, frozen=True):
    """Relay to keeper: this is the outbox; which of its rows behind this one do you remember?"""

    instance: str
    after: int


class OutboxClosed(Message, frozen=True):
    """Relay to keeper: the outbox is not open any more; what it sent of it and was not answered is to come anew."""


class OutboxKnown(Message, frozen=True):
    """Keeper to relay, answering OutboxOpened: rows that are jobs, in order; fewer than asked for are the last."""

    instance: str
    ids: tuple[int, ...]


class OutboxTwin(Message, frozen=True):
    """Keeper to relay, answering OutboxOpened: another outbox has this instance already."""

    instance: str
    outbox: str


KNOWN_ROWS = 1_000
"""As many ids are in an OutboxKnown, unless there are no more."""


class OutboxRows(Message, frozen=True):
    """Relay to keeper (descriptor: a memfd with rows, see `wire.outbox`): make them jobs. Answered by OutboxTaken."""

    number: int
    instance: str


class OutboxTaken(Message, frozen=True):
    """Keeper to relay (descriptor: a memfd with a verdict for each row): what is a job is committed."""

    number: int


class OutboxGone(Message, frozen=True):
    """Relay to keeper: these rows are deleted, and synced; forget them."""

    instance: str
    ids: tuple[int, ...]


class OutboxAgain(Message, frozen=True):
    """Keeper to relay: the configuration has changed; what was refused may be taken now."""


class OutboxState(Message, frozen=True):
    """Relay to keeper: how the outbox stands. Counts end at 10,000; `refusals` are (id, queue, error) of the first."""

    state: str = "starting"
    error: str | None = None
    waiting: int = 0
    refused: int = 0
    moved: int = 0
    oldest_at_ms: int | None = None
    moved_at_ms: int | None = None
    full: tuple[str, ...] = ()
    refusals: tuple[tuple[int, str, str], ...] = ()


class PoolLoad(Message, frozen=True):
    """Keeper to the foreman of an autoscaled pool: what it has to do; see `policy.autoscale.Load`."""

    backlog: int
    busy: int
    mean_ms: float
    work: float
    idle: int = 0


class PoolScaled(Message, frozen=True):
    """Foreman of an autoscaled pool to keeper and master: how many workers it is to have, and why."""

    pool: str
    target: int
    reason: str
    source: str
    by_hand: int | None = None
    """The number that somebody asked for in place of the load's, if somebody did."""


class ScaleAsked(Message, frozen=True):
    """Keeper to foreman: have so many workers whatever the load is; None: let the load decide again."""

    workers: int | None


class Resized(Message, frozen=True):
    """Master to foreman: the configuration now says so many workers; those that stay are not touched."""

    workers: int | WorkerRange
    scale: Scale


AnyMessage = (
    Hello | Ready | Progress | SlotGiven | SlotClosed | LinkGiven | LinkGone | SpecChanged | TreeChanged | Drain
    | Finish | ReloadAsked | ReloadDone | ProbeAsked | Started | WorkerReady | PoolState | Stopping | Stop
    | ScopeGiven | ScopeGone | Certificate | Answered | CancelRunning | RecycleWorker | PoolLoad | PoolScaled | Resized
    | ScaleAsked | TasksKnown | AlerterGiven | AlerterGone | AlertsKnown | Tell | Told
    | RelayGiven | RelayGone | OutboxOwner | OutboxOpened | OutboxKnown | OutboxRows | OutboxTaken | OutboxGone
    | OutboxAgain | OutboxState | OutboxTwin | OutboxClosed
)  # fmt: skip

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)


def encode_message(message: AnyMessage) -> bytes:
    """A message as it travels, and as a certificate is kept in its slot."""
    return _encoder.encode(message)


def decode_message(data: bytes) -> Any:
    """The message of `encode_message`.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return _decoder.decode(data)


def _message_or_none(data: bytes) -> Any:
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


class LinkClosed(Exception):
    """The other end is gone."""


class Link:
    """One end of a private SEQPACKET pair. Never blocks: what does not fit waits here until `flush`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._waiting: list[tuple[bytes, list[int]]] = []

    def fileno(self) -> int:
        """For the selector."""
        return self.sock.fileno()

    @property
    def congested(self) -> bool:
        """Whether something waits for room; then call `flush` soon."""
        return bool(self._waiting)

    def send(self, message: AnyMessage, descriptors: Sequence[int] = ()) -> None:
        """Send, or keep for later with duplicates of the descriptors. A link whose peer is gone swallows it."""
        data = _encoder.encode(message)
        if self._waiting or not self._send(data, descriptors):
            self._waiting.append((data, [os.dup(fd) for fd in descriptors]))

    def flush(self) -> None:
        """Send what waited, as far as there is room."""
        while self._waiting and self._send(*self._waiting[0]):
            _, descriptors = self._waiting.pop(0)
            for fd in descriptors:
                os.close(fd)

    def _send(self, data: bytes, descriptors: Sequence[int]) -> bool:
        beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self.sock.sendmsg([data], beside, socket.MSG_NOSIGNAL)
        except OSError as error:
            return error.errno not in LATER
        return True

    def receive(self) -> Iterator[tuple[Any, list[int]]]:
        """Every message that has arrived, with its descriptors: what the caller takes out of the list is its own to
        close, and what is left in it is closed before the next message.

        What is no message is passed over: a foreman has run user code, and nobody shall end of what it says.

        Raises:
            LinkClosed: the peer is gone, and everything it sent has been given out.
        """
        room = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)
        while True:
            try:
                data, beside, flags, _ = self.sock.recvmsg(PACKET_BYTES_MAX, room, socket.MSG_CMSG_CLOEXEC)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                raise LinkClosed from error
            if not data:
                raise LinkClosed
            descriptors: list[int] = []
            for level, kind, part in beside:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(part[: len(part) - len(part) % numbers.itemsize])
                    descriptors.extend(numbers)
            if flags & socket.MSG_CTRUNC:
                # What came over the link is gone. Whoever is started in our place inherits all of it.
                raise OSError(errno.EMFILE, "no descriptor is left for what came over a link; raise RLIMIT_NOFILE")
            message = _message_or_none(data)
            try:
                if message is not None:
                    yield message, descriptors
            finally:
                for fd in descriptors:
                    os.close(fd)

    def close(self) -> None:
        """Close this end and what waited."""
        for _, descriptors in self._waiting:
            for fd in descriptors:
                os.close(fd)
        self._waiting.clear()
        self.sock.close()


def memory_file(name: str, data: bytes) -> int:
    """An anonymous file that holds `data`, for what is too large for a packet; the caller closes it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return fd


def read_memory_file(fd: int) -> bytes:
    """The whole of a file made by `memory_file`; closes the descriptor."""
    try:
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
