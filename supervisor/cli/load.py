"""Loading many jobs, one payload per line: in chunks, each all or none, in order, and resumable.

What is known to be committed is told by one number, the last line of the last chunk that was acknowledged. Ctrl-C
lets the chunk under way end, so that the number is exact; a second Ctrl-C does not wait for it.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import click

from supervisor.cli.failure import EXIT_INTERRUPTED, as_object, status_of
from supervisor.errors import EXIT_FAILED, InvalidPayload, JobsupError, QueueFull, Unconfirmed
from supervisor.observe.sanitise import sanitise
from supervisor.wire.payload import Encoded, parse

if TYPE_CHECKING:
    from supervisor.cli.invocation import Invocation
    from supervisor.client import Client

CHUNK_JOBS = 500
CHUNK_BYTES = 1024 * 1024
LINE_BYTES_MAX = 16 * 1024 * 1024
READ_BYTES = 256 * 1024
LINGER_S = 0.2
"""How long a pipe may be silent before what has come is sent, however little."""

REJECTED_SHOWN = 20


class Line(NamedTuple):
    """A line of the input, and its number, beginning with 1; `text` is None if it was too long to keep."""

    number: int
    text: bytes | None


class Chunk(NamedTuple):
    """Lines that are sent together. `last` is the last line read for it, `read_bytes` how far the input was read."""

    lines: list[Line]
    last: int
    read_bytes: int


class Rejected(NamedTuple):
    """A line that did not become a job, and why."""

    line: int
    error: str


class Progress(Protocol):
    """Shows how far a load is."""

    def __call__(self, read_bytes: int, accepted: int, rejected: int, /) -> None: ...


class Loader:
    """Sends chunks and keeps the account: how many were accepted, which were rejected, what is committed."""

    def __init__(self, client: Client[int], queue: str, options: dict[str, Any], resumed_at: int) -> None:
        self._client = client
        self._queue = queue
        self._options = options
        self.accepted = 0
        self.rejected: list[Rejected] = []
        self.first_id: int | None = None
        self.last_id: int | None = None
        self.committed_line = resumed_at
        self.uncertain_line: int | None = None
        """The last line of what was sent and is not answered: it may be a job, or not."""

    def send(self, chunk: Chunk) -> None:
        """Send one chunk; afterwards every line of it is a job or rejected."""
        good: list[tuple[int, Encoded]] = []
        for line in chunk.lines:
            try:
                good.append((line.number, _payload(line)))
            except InvalidPayload as error:
                self.rejected.append(Rejected(line.number, error.message))
        self._insert(good)
        self.rejected.sort()
        self.committed_line = chunk.last

    def _insert(self, numbered: Sequence[tuple[int, Encoded]]) -> None:
        """Insert payloads; where the queue refuses one of them, find it by halves, so that its neighbours get in.

        Where it has no room for so many, as many go in as it has room for.
        """
        if not numbered:
            return
        self.uncertain_line = numbered[-1][0]
        try:
            reply = self._client.insert(self._queue, [{"payload": payload, **self._options} for _, payload in numbered])
        except (InvalidPayload, QueueFull) as error:
            self.uncertain_line = None
            if len(numbered) == 1:
                if isinstance(error, QueueFull):
                    raise
                self.rejected.append(Rejected(numbered[0][0], error.message))
                return
            middle = len(numbered) // 2
            self._insert(numbered[:middle])
            self._insert(numbered[middle:])
            return
        self._count(numbered[-1][0], reply["ids"])

    def _count(self, line: int, ids: Sequence[int]) -> None:
        self.accepted += len(ids)
        self.first_id = ids[0] if self.first_id is None else self.first_id
        self.last_id = ids[-1]
        self.committed_line = line
        self.uncertain_line = None


def load_lines(invocation: Invocation, queue: str, source: str, resume: int, options: dict[str, Any]) -> int:
    """Enqueue every line of a file or of standard input; returns the exit status."""
    descriptor, total_bytes = _open(source)
    with invocation.client() as client:
        loader = Loader(client, queue, options, resume)
        stopped: JobsupError | None = None
        with _interrupts() as interrupted, _progress(total_bytes) as progress:
            try:
                for chunk in chunks(descriptor, resume, interrupted):
                    loader.send(chunk)
                    progress(chunk.read_bytes, loader.accepted, len(loader.rejected))
                    if interrupted():
                        break
            except JobsupError as error:
                stopped = invocation.explained(error)
            except OSError as error:
                stopped = JobsupError(f"{source}: {error.strerror}")
            except KeyboardInterrupt:
                pass
    return _conclude(invocation, loader, stopped, was_interrupted=interrupted())


def chunks(descriptor: int, resume: int, interrupted: Callable[[], bool]) -> Iterator[Chunk]:
    """The lines behind `resume`, in chunks that are full, or all there is while the source is silent."""
    lines: list[Line] = []
    size_bytes = 0
    number = 0
    read_bytes = 0
    for piece in _lines(descriptor, interrupted):
        if piece is not None:
            number += 1
            read_bytes += piece.length
            if number > resume and not piece.blank:
                lines.append(Line(number, piece.text))
                size_bytes += piece.length
        if lines and (piece is None or len(lines) >= CHUNK_JOBS or size_bytes >= CHUNK_BYTES):
            yield Chunk(lines, number, read_bytes)
            lines, size_bytes = [], 0
    if lines and not interrupted():
        yield Chunk(lines, number, read_bytes)


class _Piece(NamedTuple):
    text: bytes | None
    length: int

    @property
    def blank(self) -> bool:
        return self.text is not None and not self.text.strip()


def _lines(descriptor: int, interrupted: Callable[[], bool]) -> Iterator[_Piece | None]:
    """Every line; None each time the source has been silent for a while."""
    rest = b""
    dropped_bytes = 0
    while not interrupted():
        if not _readable(descriptor, interrupted):
            yield None
            continue
        data = os.read(descriptor, READ_BYTES)
        if not data:
            break
        *whole, rest = (rest + data).split(b"\n")
        for text in whole:
            yield _Piece(None if dropped_bytes else text, len(text) + 1 + dropped_bytes)
            dropped_bytes = 0
        if len(rest) > LINE_BYTES_MAX:
            dropped_bytes += len(rest)
            rest = b""
    if (rest or dropped_bytes) and not interrupted():
        yield _Piece(None if dropped_bytes else rest, len(rest) + dropped_bytes)


def _readable(descriptor: int, interrupted: Callable[[], bool]) -> bool:
    """Whether there is something to read, or the end; False after a moment of silence, or when interrupted."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if poll.poll(LINGER_S * 1000):
        return True
    return interrupted()


def _payload(line: Line) -> Encoded:
    if line.text is None:
        raise InvalidPayload(f"the line has more than {LINE_BYTES_MAX:,} bytes, the most that a request may hold")
    return parse(line.text)


def _open(source: str) -> tuple[int, int | None]:
    """The input's descriptor, and its size if it has one."""
    if source == "-":
        return 0, None
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        facts = os.fstat(descriptor)
        if stat.S_ISDIR(facts.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        os.pread(descriptor, 0, 0) if facts.st_size else None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{source}: {getattr(error, 'strerror', None) or error}") from None
    return descriptor, facts.st_size or None


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C or SIGTERM instead of raising it; a second one interrupts as usual."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        if len(noted) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(total_bytes: int | None) -> Iterator[Progress]:
    """A progress bar where stderr is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False, markup=False)
    text = TextColumn("{task.fields[accepted]} accepted, {task.fields[rejected]} rejected", markup=False)
    with Progress(BarColumn(), text, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=total_bytes, accepted=0, rejected=0)
        yield lambda read_bytes, accepted, rejected: bar.update(
            task, completed=read_bytes, accepted=accepted, rejected=rejected
        )


def _silent(_read_bytes: int, _accepted: int, _rejected: int) -> None:
    """Progress that nobody watches."""


def _conclude(invocation: Invocation, loader: Loader, stopped: JobsupError | None, *, was_interrupted: bool) -> int:
    """Print the account; the exit status."""
    if invocation.json:
        _put_account(loader, stopped)
    else:
        _complain(loader.rejected)
        sys.stdout.write(f"accepted {loader.accepted}, rejected {len(loader.rejected)}\n")
    if stopped or was_interrupted:
        sys.stderr.write(f"jobsctl: {'interrupted' if stopped is None else sanitise(stopped.message)}\n")
        hint = stopped.hint if stopped else None
        for line in filter(None, (hint, _where_to_go_on(loader, stopped))):
            sys.stderr.write(f"  {sanitise(line)}\n")
        return EXIT_INTERRUPTED if stopped is None else status_of(stopped)
    return EXIT_FAILED if loader.rejected else 0


def _where_to_go_on(loader: Loader, stopped: JobsupError | None) -> str:
    line = loader.committed_line
    text = f"the last committed line is {line}; --resume {line} goes on behind it"
    if loader.uncertain_line is None or not (stopped is None or isinstance(stopped, Unconfirmed)):
        return text
    return f"{text}; lines {line + 1} to {loader.uncertain_line} were sent, and may be jobs as well"


def _put_account(loader: Loader, stopped: JobsupError | None) -> None:
    import json

    account: dict[str, Any] = {
        "accepted": loader.accepted,
        "rejected": [each._asdict() for each in loader.rejected],
        "first_id": loader.first_id,
        "last_id": loader.last_id,
        "last_line": loader.committed_line,
    }
    sys.stdout.write(json.dumps(account | ({"error": as_object(stopped)} if stopped else {})) + "\n")


def _complain(rejected: Sequence[Rejected]) -> None:
    for each in rejected[:REJECTED_SHOWN]:
        sys.stderr.write(f"jobsctl: line {each.line}: {sanitise(each.error)}\n")
    if len(rejected) > REJECTED_SHOWN:
        sys.stderr.write(f"jobsctl: and {len(rejected) - REJECTED_SHOWN} more; --json lists them all\n")
