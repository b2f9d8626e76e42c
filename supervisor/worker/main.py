"""The worker: take a chunk, run its jobs one after another, record each outcome before the next is begun.

1. A job is begun only after its claim is in memory and the keeper's limit on the chunk was looked at: so the
   keeper can take back what has not begun.
2. Its whole outcome is in the ring before the next is begun: so no kill loses or repeats a finished job.
3. The bell is rung after a chunk, or a millisecond after the last time, and never blocks.
4. A job that this worker already had under the same token is not run again: a new keeper sends leases anew.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import select
import signal
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any, cast

import msgspec

from supervisor.config.names import short_name
from supervisor.errors import InvalidPayload, PayloadTooLarge
from supervisor.job import (
    CHECKPOINTS_MAX,
    GROUP_BYTES_MAX,
    GROUP_JOBS_MAX,
    JOINS,
    OUT_OF_TIME,
    Cancel,
    Child,
    Course,
    Done,
    Failed,
    FlowOfJob,
    Job,
    JobTimeout,
    Outcome,
    RateLimited,
    Snooze,
    Unknown,
)
from supervisor.observe.failpoint import hit
from supervisor.policy.batch import limit_of
from supervisor.policy.duration import to_ms
from supervisor.policy.options import to_wire
from supervisor.unix import barrier, ring
from supervisor.unix.chunk import Chunk, ChunkJob, decode_chunk, outcome_file, payload_file
from supervisor.unix.clock import boot_ns, wall_ms, wall_offset_ms
from supervisor.unix.inheritance import BatchExecutor, Executor, NotBegun, WorkerInheritance
from supervisor.unix.memory import W_CLAIM, W_DONE, W_LIMIT, W_TOGETHER, Memory
from supervisor.unix.ring import RingWriter
from supervisor.unix.slot import (
    FILE_BYTES_MAX,
    STACKS_FILE,
    TASKS_FILE,
    open_memory,
    read_file,
    remove_file,
    write_file,
)
from supervisor.wire import payload as payloads
from supervisor.wire.job_text import error_text

CHUNK_MESSAGE_MAX = 256 * 1024
BELL_NS = 1_000_000
REMEMBERED_JOBS = 8_192
TOO_LATE = "the job's deadline had passed before it was begun"
UNREADABLE = "the payload could not be read from the slot: {}"

LOST = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ESTALE})
"""What files of the slot answer when a job has deleted its directory, or closed our descriptor of it."""

encode = msgspec.msgpack.encode


class SlotLost(Exception):
    """The slot's files are out of reach: this worker can do no large job any more."""


def raise_if_lost(error: OSError) -> None:
    """Raise SlotLost if the error means that; others, no space say, are the job's own."""
    if error.errno in LOST:
        raise SlotLost from error


def run(inheritance: WorkerInheritance) -> int:
    """A worker's whole life; returns its exit status."""
    worker = Worker(inheritance)
    worker.boot()
    worker.serve()
    worker.close()
    return 0


class Worker:
    """One worker on its slot."""

    def __init__(self, inheritance: WorkerInheritance) -> None:
        self._given = inheritance
        self._queue = inheritance.queue
        self._name = short_name(inheritance.queue.name)
        self._sock = inheritance.worker_end
        self._folder = inheritance.directory_fd
        memory_fd = open_memory(self._folder)
        self._memory = Memory(memory_fd)
        os.close(memory_fd)
        self._ring = RingWriter(self._memory)
        self._words = self._memory.words
        self._stopping = False
        self._interruptible = False
        self._rung_ns = 0
        self._unrung = 0
        self._jobs_left = inheritance.queue.recycle_jobs
        self._max_attempts = inheritance.queue.max_attempts
        self._had: OrderedDict[int, set[int]] = OrderedDict()
        self._executor: Executor
        self._pid = os.getpid()
        self._thread = threading.get_ident()
        self._plain_course = partial(self._course_of, NOTHING_TOLD)
        self._may_be_spent = False

    # -- boot --------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Install handlers, load what the foreman did not, and say that jobs can come."""
        self._wake_read, wake_write = socket.socketpair()
        for end in (self._wake_read, wake_write):
            end.setblocking(False)
        self._wake_write = wake_write
        self._take_signals()
        # There is no job to finish yet: whoever boots slowly stops at once.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        stacks = os.open(STACKS_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o660, dir_fd=self._folder)
        faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True, chain=False)
        faulthandler.enable(file=stacks, all_threads=True)
        self._executor = self._given.executor or self._given.load(self._queue)
        if self._given.executor is None and self._queue.has_tasks:
            write_file(self._folder, TASKS_FILE, msgspec.json.encode(self._executor.known))
        self._words[W_TOGETHER] = self._queue.batch_size is not None
        self._executor.prepare()
        barrier.register()
        self._sock.setblocking(False)
        self._waiter = select.poll()
        self._waiter.register(self._sock.fileno(), select.POLLIN)
        self._waiter.register(self._wake_read.fileno(), select.POLLIN)
        self._may_be_spent = self._executor.descriptor is not None
        if self._executor.descriptor is not None:
            self._waiter.register(self._executor.descriptor, select.POLLIN)
        self._take_signals()
        os.write(self._given.ready_fd, b"r")

    def _take_signals(self) -> None:
        """Have the signals that we live by; again after each chunk, for jobs and what they import set their own."""
        try:
            signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        except (OSError, ValueError):
            self._stopping = True  # a job has closed what wakes us: whoever cannot be told to stop must not go on
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, self._on_deadline)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def _on_stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _on_deadline(self, _signal: int, _frame: FrameType | None) -> None:
        if self._interruptible and self._memory.targeted and not self._executor.defer():
            self._interruptible = False
            self._executor.interrupt()
            raise JobTimeout(OUT_OF_TIME)

    # -- the loop ----------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Take chunks until told to stop, or until enough jobs were run."""
        while not self._stopping:
            data = self._take()
            if data is None:
                continue
            if not data:
                return
            self._run_chunk(decode_chunk(data))
            if self._jobs_left is not None and self._jobs_left <= 0:
                return

    def close(self) -> None:
        """Let go what outlives a job, before this process ends."""
        self._executor.close()

    def _take(self) -> bytes | None:
        """The next chunk; None if a signal came first; empty if the keeper's side is gone, or a job has closed ours."""
        try:
            return self._sock.recv(CHUNK_MESSAGE_MAX)
        except BlockingIOError:
            pass
        except OSError:
            return b""
        self._ring_bell()
        for fd, _ in self._waiter.poll():
            if fd == self._wake_read.fileno():
                self._wake_read.recv(512)
            elif fd == self._executor.descriptor:
                self._executor.attend()
                self._stopping |= self._executor.spent
        return None

    def _run_chunk(self, chunk: Chunk) -> None:
        hit("worker.after_take")
        if not chunk.jobs:
            self._unrung += 1  # the keeper asks whether we take anything at all
        self._max_attempts = chunk.max_attempts
        had = self._remember(chunk.token)
        if self._queue.batch_size is None:
            self._run_in_turn(chunk, had)
        else:
            self._run_together(chunk, had, self._queue.batch_size)
        self._ring_bell()
        self._take_signals()

    def _run_in_turn(self, chunk: Chunk, had: set[int]) -> None:
        """Run the jobs of a chunk one after another."""
        serial = chunk.serial << 16
        offset_ms = wall_offset_ms()
        for index, sent in enumerate(chunk.jobs):
            self._words[W_CLAIM] = serial | index
            limit = self._words[W_LIMIT]
            recalled = limit >> 16 == chunk.serial and index >= limit & 0xFFFF
            if recalled or self._stopping or self._recycled():
                self._hand_back_unbegun(chunk.token, chunk.jobs[index:], had)
                break
            if sent.id not in had:
                had.add(sent.id)
                self._run_job(chunk.token, sent, offset_ms)

    def _run_together(self, chunk: Chunk, had: set[int], size: int) -> None:
        """Run the jobs of a chunk in one call; in several where a keeper of another configuration has sent more.

        A deadline may have come close since they were sent: whoever has less time than the others has a call for
        itself, so that nobody runs out of time for somebody else.
        """
        left, begun = [sent for sent in chunk.jobs if sent.id not in had], 0
        while left:
            self._words[W_CLAIM] = chunk.serial << 16 | begun
            limit = self._words[W_LIMIT]
            recalled = limit >> 16 == chunk.serial and begun >= limit & 0xFFFF
            if recalled or self._stopping or self._recycled():
                self._hand_back_unbegun(chunk.token, left, had)
                break
            offset_ms = wall_offset_ms()
            call = self._of_one_limit(left, boot_ns() // 1_000_000 + offset_ms)[:size]
            ids = {sent.id for sent in call}
            had |= ids
            begun += len(call)
            left = [sent for sent in left if sent.id not in ids]
            self._run_batch(chunk.token, call, offset_ms)

    def _of_one_limit(self, jobs: Sequence[ChunkJob], now_ms: int) -> list[ChunkJob]:
        """The jobs that have the time limit of the first one, as of now."""
        limits = [limit_of(sent.extra or {}, self._queue.timeout_ms, now_ms) for sent in jobs]
        return [sent for sent, limit in zip(jobs, limits, strict=True) if limit == limits[0]]

    def _hand_back_unbegun(self, token: int, jobs: Sequence[ChunkJob], had: set[int]) -> None:
        """Give back jobs that this worker does not begin any more."""
        left = [sent.id for sent in jobs if sent.id not in had]
        self._hand_back(token, left)
        # A new keeper may have sent them anew before it read that: they are another worker's now.
        had.update(left)

    def _recycled(self) -> bool:
        return self._jobs_left is not None and self._jobs_left <= 0

    def _remember(self, token: int) -> set[int]:
        """The jobs that this worker has had under this token."""
        had = self._had.setdefault(token, set())
        total = sum(map(len, self._had.values())) if len(self._had) > 64 else 0
        while total > REMEMBERED_JOBS:
            _, oldest = self._had.popitem(last=False)
            total -= len(oldest)
        return had

    def _hand_back(self, token: int, ids: list[int]) -> None:
        if ids:
            self._await_room(len(ids) * 9 + 16)
            self._ring.append(ring.HANDBACK, 0, token, 0, 0, encode(ids))
            self._unrung += 1

    # -- one job -----------------------------------------------------------------------------------------------

    def _run_job(self, token: int, sent: ChunkJob, offset_ms: int) -> None:
        extra = sent.extra or {}
        started_ns = boot_ns()
        started_ms = started_ns // 1_000_000
        timeout_ms = self._queue.timeout_ms
        if extra:
            timeout_ms = limit_ms(extra, timeout_ms, started_ms + offset_ms)
        deadline_ms = started_ms + timeout_ms
        self._memory.begin(0, sent.id, token, started_ms, deadline_ms)
        if deadline_ms < self._memory.watch_until_ms:
            self._ring_foreman()
        hit("worker.after_begin")
        children = Children()
        try:
            outcome = self._execute(token, sent, extra, timeout_ms, started_ms + offset_ms, children)
        except (SlotLost, NotBegun):
            self._give_up(token, sent.id)
            return
        if os.getpid() != self._pid:
            os._exit(0)  # the job has forked, and came back twice: the job is the first one's, and so is the ring
        self._memory.returned(0)
        hit("worker.after_run")
        ended_ns = boot_ns()
        try:
            self._record(token, sent.id, outcome, children, started_ms + offset_ms, (ended_ns - started_ns) // 1000)
        except SlotLost:
            self._give_up(token, sent.id)
            return
        hit("worker.after_record")
        self._memory.end(0)
        self._words[W_DONE] += 1
        if self._jobs_left is not None:
            self._jobs_left -= 1
        if self._may_be_spent:
            self._stopping |= self._executor.spent
        if ended_ns - self._rung_ns > BELL_NS:
            self._ring_bell()

    def _give_up(self, token: int, job_id: int) -> None:
        """An earlier job has spoilt the slot, or the executor: this one is another worker's, and costs nothing."""
        self._hand_back(token, [job_id])
        self._memory.end(0)
        self._stopping = True

    def _execute(
        self, token: int, sent: ChunkJob, extra: dict[str, Any], timeout_ms: int, started_at_ms: int, children: Children
    ) -> Outcome:
        try:
            payload, story = sent.payload, None
            if payload is None or "own_bytes" in extra:
                payload, story = self._payload_of(token, sent, extra)
            job = self._job(token, sent, extra, payload, story, started_at_ms + timeout_ms, children)
            if not timeout_ms:
                raise JobTimeout(TOO_LATE)  # noqa: TRY301 - as if it had passed a moment later
            self._interruptible = True
            outcome = self._executor.run(job, payload)
        except JobTimeout as error:
            outcome = Failed(str(error), kind="timeout", type="JobTimeout")
        except OSError as error:
            raise_if_lost(error)
            outcome = Failed(UNREADABLE.format(error))
        finally:
            self._interruptible = False
        return outcome

    # -- several jobs in one call ------------------------------------------------------------------------------------

    def _run_batch(self, token: int, batch: Sequence[ChunkJob], offset_ms: int) -> None:
        """Run jobs in one call and record the outcome of each; those that cannot be begun have failed by themselves.

        An earlier job may have spoilt the slot: what has no outcome is another worker's then, and costs nothing.
        """
        open_ids = [sent.id for sent in batch]
        try:
            self._run_begun(token, batch, open_ids, offset_ms)
        except SlotLost:
            self._hand_back(token, open_ids)
            self._stopping = True
        self._memory.end_together()

    def _run_begun(self, token: int, batch: Sequence[ChunkJob], open_ids: list[int], offset_ms: int) -> None:
        """Begin the jobs, run them, and record what came of each; `open_ids` loses whatever has its outcome."""
        started_ns = boot_ns()
        started_ms = started_ns // 1_000_000
        started_at_ms = started_ms + offset_ms

        def record(job_id: int, outcome: Outcome, children: Children, run_us: int) -> None:
            self._record(token, job_id, outcome, children, started_at_ms, run_us)
            open_ids.remove(job_id)
            self._words[W_DONE] += 1

        limits = {sent.id: limit_ms(sent.extra or {}, self._queue.timeout_ms, started_at_ms) for sent in batch}
        for job_id in [job_id for job_id, limit in limits.items() if not limit]:
            record(job_id, Failed(TOO_LATE, kind="timeout", type="JobTimeout"), Children(), 0)
        if open_ids:
            timeout_ms = min(limits[job_id] for job_id in open_ids)
            self._begin(list(open_ids), token, started_ms, started_ms + timeout_ms)
            taken = []
            for sent in (sent for sent in batch if limits[sent.id]):
                children = Children()
                found = self._taken(token, sent, started_at_ms + timeout_ms, children)
                if isinstance(found, Job):
                    taken.append((found, children))
                else:
                    record(sent.id, found, children, 0)
            self._ring_bell()  # what has failed by itself is not kept waiting
            outcomes = self._execute_batch([job for job, _ in taken])
            run_us = (boot_ns() - started_ns) // 1000
            for (job, children), outcome in zip(taken, outcomes, strict=True):
                record(job.id, outcome, children, run_us)
                hit("worker.after_record")
        if self._jobs_left is not None:
            self._jobs_left -= len(batch)

    def _begin(self, ids: list[int], token: int, started_ms: int, deadline_ms: int) -> None:
        self._memory.begin_together(ids, token, started_ms, deadline_ms)
        if deadline_ms < self._memory.watch_until_ms:
            self._ring_foreman()
        hit("worker.after_begin")

    def _taken(self, token: int, sent: ChunkJob, deadline_at_ms: int, children: Children) -> Job | Failed:
        """A job of a batch as its handler gets it; or why it cannot be run."""
        extra = sent.extra or {}
        try:
            payload, story = self._payload_of(token, sent, extra)
        except OSError as error:
            raise_if_lost(error)
            return Failed(UNREADABLE.format(error))
        return self._job(token, sent, extra, payload, story, deadline_at_ms, children)

    def _execute_batch(self, jobs: list[Job]) -> list[Outcome]:
        """Call the handler; the outcomes of the jobs in their order. What has none when the time is over, is late."""
        outcomes: list[Outcome] = []
        try:
            self._interruptible = True
            if jobs:
                cast("BatchExecutor", self._executor).run_batch(jobs, outcomes)
        except JobTimeout as error:
            late = Failed(str(error), kind="timeout", type="JobTimeout")
            outcomes += [late] * (len(jobs) - len(outcomes))
        finally:
            self._interruptible = False
        if os.getpid() != self._pid:
            os._exit(0)  # as of one job: whoever was forked has no ring
        self._memory.returned(0)
        hit("worker.after_run")
        return outcomes

    # -- a job as its handler gets it --------------------------------------------------------------------------------

    def _payload_of(self, token: int, sent: ChunkJob, extra: dict[str, Any]) -> tuple[bytes, bytes | None]:
        """The payload of a job, and what it is told beside it, if anything."""
        payload = sent.payload if sent.payload is not None else self._large_payload(token, sent.id)
        if "own_bytes" in extra:
            return payload[: extra["own_bytes"]], payload[extra["own_bytes"] :]
        return payload, None

    def _large_payload(self, token: int, job_id: int) -> bytes:
        name = payload_file(token, job_id)
        payload = read_file(self._folder, name, FILE_BYTES_MAX)
        remove_file(self._folder, name)
        return payload

    def _job(
        self,
        token: int,
        sent: ChunkJob,
        extra: dict[str, Any],
        payload: bytes,
        story: bytes | None,
        deadline_at_ms: int,
        children: Children,
    ) -> Job:
        enqueued_at, deadline = _instant(sent.enqueued_at_ms), _instant(deadline_at_ms)
        if not extra:  # as most are: asking eleven times for what is not there is a tenth of what a job costs
            return Job(
                id=sent.id, queue=self._name, payload=msgspec.json.decode(payload), attempt=sent.attempt,
                max_attempts=self._max_attempts, token=token, enqueued_at=enqueued_at, deadline=deadline,
                enqueue=children.add, course=self._plain_course,
            )  # fmt: skip
        due_at_ms = extra.get("due_at_ms")
        told = msgspec.json.decode(story) if story else {}
        return Job(
            id=sent.id,
            queue=short_name(extra["queue"]) if "queue" in extra else self._name,
            payload=msgspec.json.decode(payload),
            attempt=sent.attempt,
            max_attempts=extra.get("max_attempts") or self._max_attempts,
            token=token,
            priority=extra.get("priority", 0),
            tags=tuple(extra.get("tags", ())),
            key=extra.get("key"),
            task=extra.get("task"),
            version=extra.get("version"),
            enqueued_at=enqueued_at,
            due_at=_instant(due_at_ms) if due_at_ms else None,
            deadline=deadline,
            previous_error=extra.get("previous_error"),
            enqueue=children.add,
            flow=FlowOfJob(**told["flow"], add=children.add) if "flow" in told else None,
            course=partial(self._course_of, told) if told else self._plain_course,
        )

    # -- what is kept of a run, and told of it -------------------------------------------------------------------

    def _course_of(self, told: Mapping[str, Any], job: Job) -> Course:
        """Made when a handler asks for it: most never do."""
        keep, report, job_id, token = self._keeper_of(job.token, job.id), self._memory.report, job.id, job.token

        def tell(fraction: float, text: str) -> None:
            report(job_id, token, wall_ms(), fraction, text)

        return Course(keep, tell, told.get("steps"), told.get("cursor"))

    def _keeper_of(self, token: int, job_id: int) -> Callable[[str, Any], Any]:
        """What writes a value into the ring, to be kept for later attempts; returns it as JSON has it.

        A deadline that passes meanwhile is raised when the record is whole.
        """
        count = 0

        def keep(name: str, value: Any) -> Any:
            nonlocal count
            if os.getpid() != self._pid or threading.get_ident() != self._thread:
                raise RuntimeError(OTHER_THREAD)
            data = checkpoint_data(name, value)
            count += bool(name)
            if count > CHECKPOINTS_MAX:
                raise InvalidPayload(f"a job has at most {CHECKPOINTS_MAX} steps")
            before, self._interruptible = self._interruptible, False
            try:
                self._await_room(len(data))
                self._ring.append(ring.CHECKPOINT, job_id, token, 0, 0, data)
                self._unrung += 1
                hit("worker.after_checkpoint")
            finally:
                self._interruptible = before
            if before and self._memory.targeted:
                self._on_deadline(0, None)
            if boot_ns() - self._rung_ns > BELL_NS:
                self._ring_bell()
            return msgspec.json.decode(msgspec.json.encode(value))

        return keep

    # -- outcomes ----------------------------------------------------------------------------------------------

    def _record(
        self, token: int, job_id: int, outcome: Outcome, children: Children, started_at_ms: int, run_us: int
    ) -> None:
        kind, data = wire_outcome(outcome, children.listed)
        if len(data) > ring.DATA_MAX:
            kind, data = self._spill(token, job_id, kind, data)
        if not self._ring.has_room(len(data)):
            self._await_room(len(data))
        self._ring.append(kind, job_id, token, started_at_ms, run_us, data)
        self._unrung += 1

    def _spill(self, token: int, job_id: int, kind: int, data: bytes) -> tuple[int, bytes]:
        """Put a large outcome into a file of the slot first; the record then names it."""
        hit("worker.before_spill")
        name = outcome_file(token, job_id)
        try:
            write_file(self._folder, name, data)
        except OSError as error:
            raise_if_lost(error)
            return ring.FAILED, encode({"message": f"the outcome of {len(data)} bytes could not be kept: {error}"})
        return kind | ring.SPILLED, name.encode()

    def _await_room(self, length: int) -> None:
        """A ring without room: take no more until the keeper has read."""
        while not self._ring.has_room(length):
            self._unrung += 1
            self._ring_bell()
            select.select([], [], [], 0.001)

    def _ring_bell(self) -> None:
        if not self._unrung:
            return
        hit("worker.before_bell")
        self._rung_ns = boot_ns()
        self._unrung = 0
        try:
            self._sock.send(b"\0", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass  # a full socket counts as rung; a closed one has nobody to hear it

    def _ring_foreman(self) -> None:
        try:
            os.write(self._given.bell_fd, b"\0")
        except OSError:
            pass  # a full pipe counts as rung


def limit_ms(extra: Mapping[str, Any], of_queue_ms: int, now_ms: int) -> int:
    """How long a job may run, in milliseconds: by its own time-out, or its queue's, and by its deadline."""
    timeout_ms: int = extra.get("timeout_ms") or of_queue_ms
    if "deadline_at_ms" in extra:
        timeout_ms = min(timeout_ms, max(extra["deadline_at_ms"] - now_ms, 0))
    return timeout_ms


NOTHING_TOLD: Mapping[str, Any] = {}
OTHER_THREAD = "what a job keeps is kept by the thread that runs its handler, and by no other"
CHECKPOINT_BYTES_MAX = 16 * 1024
CHECKPOINT_NAME_MAX = 100


def checkpoint_data(name: str, value: Any) -> bytes:
    """A value to be kept, as its record has it.

    Raises:
        InvalidPayload: in the handler.
    """
    if len(name) > CHECKPOINT_NAME_MAX or not name.isprintable():
        raise InvalidPayload(f"the name of a step is up to {CHECKPOINT_NAME_MAX} printable characters")
    what = f"the value of step {name}" if name else "the cursor"
    text = payloads.encode(value, what).encode()
    if len(text) > CHECKPOINT_BYTES_MAX:
        raise InvalidPayload(f"{what} has {len(text)} bytes, the limit is {CHECKPOINT_BYTES_MAX}")
    return encode((name, text))


def wire_outcome(outcome: Outcome, children: list[Child]) -> tuple[int, bytes]:
    """The kind and the data of an outcome's record; children count only beside a completion."""
    match outcome:
        case Done(result) if children:
            listed = [(child.queue, child.payload, child.options) for child in children]
            found = ring.DONE_WITH_CHILDREN, encode((result, listed))
        case Done(result):
            found = ring.DONE, result or b""
        case Failed():
            given = {name: clipped(value) for name, value in outcome._asdict().items() if value is not None}
            found = ring.FAILED, encode(given)
        case Snooze(delay):
            found = ring.SNOOZE, encode(to_ms(delay))
        case RateLimited(delay, key_only):
            found = ring.RATE_LIMITED, encode((to_ms(delay), key_only))
        case Cancel(reason):
            found = ring.CANCEL, encode(clipped(reason))
        case Unknown():
            found = ring.UNKNOWN, encode(tuple(outcome))
    return found


def clipped(value: Any) -> Any:
    """Texts cut to what is kept of an attempt; other values as they are."""
    return error_text(value) if isinstance(value, str) else value


class Children:
    """What a job has enqueued so far. All of it becomes jobs in one commit, so it is bounded as a client's group is."""

    def __init__(self) -> None:
        self.listed: list[Child] = []
        self._payload_bytes = 0

    def add(self, child: Child) -> None:
        """Note one more.

        Raises:
            InvalidPayload, PayloadTooLarge: in the handler, which may catch it; the child is not among them.
        """
        added = checked(child)
        self._payload_bytes += len(added.payload)
        if len(self.listed) >= GROUP_JOBS_MAX or self._payload_bytes > GROUP_BYTES_MAX:
            self._payload_bytes -= len(added.payload)
            raise PayloadTooLarge(
                f"a job may enqueue {GROUP_JOBS_MAX} jobs with {GROUP_BYTES_MAX} bytes in all",
                hint="enqueue one job that goes on with the rest",
            )
        self.listed.append(added)


def checked(child: Child) -> Child:
    """A child with its payload as JSON text and its options as they travel, by the rules of a client's request.

    Raises:
        InvalidPayload: in the handler, which fails of it.
    """
    own = dict(child.options)
    joins = {JOINS: True} if own.pop(JOINS, False) is True else {}
    return Child(str(child.queue), payloads.encode(child.payload).encode(), to_wire(own) | joins)


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
