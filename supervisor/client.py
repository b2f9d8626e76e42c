"""The public Python client: enqueue jobs, look at them, wait for them.

    with Client("etc/queues.toml") as client:
        job_id = client.enqueue("emails", {"to": "a@b.c"}, delay="5m")
        client.wait(job_id, timeout=30)

It speaks to the daemon over its socket. Where none runs, it starts a keeper of its own, which writes the jobs
down for the daemon that comes. Imports little, so that programs that enqueue once and end are quick.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, SupportsIndex, TypeVar, cast, overload

from supervisor.errors import JobsupError, UsageError
from supervisor.unix.clock import boot_ms
from supervisor.wire import calls
from supervisor.wire.asking import Names
from supervisor.wire.client import Channel, Stream
from supervisor.wire.reach import Reach
from supervisor.wire.steps import perform

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType
    from typing import Unpack

    from supervisor.async_client import AsyncClient
    from supervisor.job import Duration
    from supervisor.shapes import (
        Changes,
        Edited,
        Explanation,
        Extended,
        FetchedJob,
        Inserted,
        JobOptions,
        JobStatus,
        Overview,
        ScheduleStatus,
        Settled,
    )
    from supervisor.wire.buffer import Buffer, Receipt
    from supervisor.wire.flows import Flows

Ticket = TypeVar("Ticket")
"""What `enqueue` returns: the job's id, or, buffered, a receipt for it."""

Result = TypeVar("Result")

__all__ = ["AsyncClient", "Client"]

FLUSH_JOBS = 500
FLUSH_BYTES = 1024 * 1024
FLUSH_INTERVAL = "50ms"


class Client(Generic[Ticket]):
    """A client of one daemon. Threads may share it; after a fork, parent and child each go on for themselves.

    `Client("etc/queues.toml")` finds the socket by the configuration, whatever the environment says;
    `Client(socket=...)` has been told it;
    `Client()` looks as `jobsctl` does: $JOBSUP_SOCKET, else the configuration in its usual places.

    With `buffered=True`, `enqueue` returns a receipt at once, and `receipt.id()` the job's id when it is known.
    Jobs are gathered and sent in groups of at most `flush_jobs`, after `flush_interval` at the latest, and by
    `flush`, `close`, leaving the `with` block and the ordinary end of the program. What is not sent when the
    process is killed is lost. A job that is refused does not spoil those that went with it; what failed is raised
    by its receipt, and by the next `flush` or `close`.
    """

    @overload
    def __init__(
        self: Client[int], config: str | os.PathLike[str] | None = None, *, socket: str | None = None,
        overrides: Sequence[str] = (), timeout: Duration = 30, one_shot: bool = True, patience: Duration | None = None,
        buffered: Literal[False] = False,
    ) -> None: ...  # fmt: skip

    @overload
    def __init__(
        self: Client[Receipt], config: str | os.PathLike[str] | None = None, *, socket: str | None = None,
        overrides: Sequence[str] = (), timeout: Duration = 30, one_shot: bool = True, patience: Duration | None = None,
        buffered: Literal[True], flush_jobs: int = FLUSH_JOBS, flush_interval: Duration = FLUSH_INTERVAL,
    ) -> None: ...  # fmt: skip

    def __init__(
        self,
        config: str | os.PathLike[str] | None = None,
        *,
        socket: str | None = None,
        overrides: Sequence[str] = (),
        timeout: Duration = 30,
        one_shot: bool = True,
        patience: Duration | None = None,
        buffered: bool = False,
        flush_jobs: int = FLUSH_JOBS,
        flush_interval: Duration = FLUSH_INTERVAL,
    ) -> None:
        """Connects with the first call, not before.

        Args:
            config: the configuration file, for the path of the socket and for a one-shot keeper.
            socket: the path of the socket. Without `config`, no file is read and no one-shot keeper started.
            overrides: "section.key=value", put over the values of the configuration.
            timeout: how long a call may take; within it, what breaks is made good and repeated.
            one_shot: False: start no keeper, and do not wait for a daemon. Inside a handler none is started.
            patience: how long a daemon that is not there is waited for, where no keeper may be started;
                None: for `timeout`, or not at all with `one_shot=False`.
            buffered: gather jobs and send them in groups.
            flush_jobs: buffered: the size of a group.
            flush_interval: buffered: no job waits longer to be sent.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
        """
        self._names = names = Names()
        self._calls = calls.Calls(names, boot_ms, timeout)
        self._reach = Reach.find(config, socket, overrides, one_shot=one_shot)
        patience_ms = calls.patience_ms(patience, one_shot=one_shot)
        self._channel = Channel(self._dial, boot_ms, names, patience_ms)
        self._buffer: Buffer | None = None
        if buffered:
            from supervisor.wire.buffer import Buffer

            self._buffer = Buffer(
                lambda queue, jobs: self._do(self._calls.ids(queue, jobs)),
                boot_ms,
                jobs_max=flush_jobs,
                bytes_max=FLUSH_BYTES,
                interval_ms=calls.to_ms(flush_interval),
            )

    def enqueue(
        self,
        queue: str,
        payload: Any = None,
        *,
        delay: Duration | None = None,
        at: datetime | str | None = None,
        priority: int | None = None,
        timeout: Duration | None = None,
        max_attempts: int | None = None,
        tags: Iterable[str] | None = None,
        backoff: Duration | Sequence[Duration] | None = None,
        retry_for: Duration | None = None,
        ttl: Duration | None = None,
        expires: datetime | str | None = None,
        deadline: datetime | Duration | None = None,
        key: str | None = None,
        cost: int | None = None,
        task: str | None = None,
        version: int | None = None,
        idempotency_key: str | None = None,
        request_key: str | None = None,
    ) -> Ticket:
        """Enqueue one job; its id, returned when the daemon has acknowledged it. Buffered: a receipt, at once.

        Args:
            queue: its name.
            payload: anything that JSON can hold.
            delay: run it this much later: "5m", seconds, or a timedelta.
            at: run it then: a datetime with a time zone, or RFC 3339 text.
            priority: -100 to 100, higher first; for queues that order by it.
            timeout: how long one attempt may take; else as the queue says. (Not how long this call may take.)
            max_attempts: how often it may fail; else as the queue says.
            tags: texts to find it by.
            backoff: the delay before each retry, or a list of them, of which the last repeats; else as the queue says.
            retry_for: no retry later than this after it was due first; then it is dead.
            ttl: cancelled, if it is not started this long after it was due.
            expires: cancelled, if it is not started by then: a datetime with a time zone, or RFC 3339 text.
            deadline: dead, if it is not done by then: an instant, or how long from now. A run is cut there.
            key: what it belongs to, such as a customer: order, fairness and limits may hold for each key.
            cost: how many jobs it counts for where the queue has a rate.
            task: which of the queue's tasks shall run it, where its handler is a module of tasks.
            version: that of the payload, as the task's own code counts; else the newest one that is known.
            idempotency_key: your own name for what is to be done, such as "order-7": as long as a job that came with it
                is kept in this queue, the same key returns that job, whatever is enqueued with it.
            request_key: your own key for this request. Within 10 minutes the same key returns the same job, so
                that you can repeat what ended with Unconfirmed; without it, a repetition is another job.

        Raises:
            UnknownQueue: no such queue.
            InvalidPayload, PayloadTooLarge: the payload or an option cannot be stored as it is.
            Denied: this user may not enqueue.
            Busy, NotRunning: it was not enqueued; the same call may succeed later.
            Unconfirmed: it was sent, and the answer was lost: it may or may not be enqueued.
        """
        options = {
            "delay": delay, "at": at, "priority": priority, "timeout": timeout,
            "max_attempts": max_attempts, "tags": tags, "backoff": backoff, "retry_for": retry_for, "ttl": ttl,
            "expires": expires, "deadline": deadline, "key": key, "cost": cost, "task": task, "version": version,
            "idempotency_key": idempotency_key,
        }  # fmt: skip
        return self._enqueue(queue, calls.texts([payload], options), request_key)[0]

    def enqueue_many(
        self, queue: str, payloads: Iterable[Any], *, idempotency_keys: Iterable[str | None] | None = None,
        request_key: str | None = None, **options: Unpack[JobOptions],
    ) -> list[Ticket]:  # fmt: skip
        """Enqueue many jobs, all or none, with the same options as `enqueue` has; their ids in the same order.

        At most 10,000 jobs and 16 MiB together; for more, several calls. `idempotency_keys`: the `idempotency_key` of
        each, in the order of the payloads, or None for one that has none.

        Raises:
            PayloadTooLarge: more than that.
            UsageError: there is not one key for each payload.
            JobsupError: as `enqueue`.
        """
        return self._enqueue(queue, calls.texts(payloads, options, idempotency_keys), request_key)

    def enqueue_each(
        self, queue: str, payloads: Iterable[Any], **options: Unpack[JobOptions]
    ) -> list[int | JobsupError]:
        """Enqueue many jobs, each for itself: its id, or the error that kept it out. Options as `enqueue`.

        Of more than a bounded queue has room for, the first go in. An error that is no job's fault (Busy,
        UnknownQueue) stands for each job that it hit. Never buffered.
        """
        return self._do(self._calls.each(queue, payloads, options))

    def insert(self, queue: str, jobs: Iterable[Mapping[str, Any]], *, request_key: str | None = None) -> Inserted:
        """Enqueue jobs as docs/protocol.md writes them, each with its own options, all or none. Never buffered.

        Returns:
            All that the daemon says: ids, states, acknowledged, repeated.

        Raises:
            JobsupError: as `enqueue`.
        """
        return self._do(self._calls.insert(queue, calls.texts_of(jobs), request_key))

    @overload
    def status(self, job: None = None) -> Overview: ...

    @overload
    def status(self, job: SupportsIndex) -> JobStatus: ...

    def status(self, job: SupportsIndex | None = None) -> JobStatus | Overview:
        """All about a job; without one, the daemon and the counts of its queues.

        Raises:
            UnknownJob: no job has that id.
        """
        return self._do(self._calls.overview()) if job is None else self._do(self._calls.job(job))

    def explain(self, job: SupportsIndex) -> Explanation:
        """Why a job is not running: `sentence`, and all `reasons`, each with its numbers.

        Raises:
            UnknownJob: no job has that id.
        """
        return self._do(self._calls.explain(job))

    def wait(self, job: SupportsIndex, timeout: Duration | None = None) -> JobStatus:
        """The job's status once it is final: completed, dead or cancelled. `timeout` None: however long it takes.

        Raises:
            WaitTimeout: it was not in time.
            UnknownJob: no job has that id.
        """
        return self._do(self._calls.wait(job, timeout))

    @cached_property
    def flows(self) -> Flows:
        """What can be asked of flows: start, show, list, signal, add, close, cancel, retry, wait."""
        from supervisor.wire.flows import Flows

        return Flows(self._calls, self._do)

    def cancel(self, job: SupportsIndex) -> None:
        """Cancel a job that is not final; one that runs is interrupted.

        Raises:
            UnknownJob: no job has that id.
            WrongState: it is final.
        """
        self._do(self._calls.cancel(job))

    def retry(self, job: SupportsIndex, *, force: bool = False) -> None:
        """Run a final job again, under its id. A completed one only with `force`.

        Raises:
            UnknownJob: no job has that id.
            WrongState: it is not final, or completed.
        """
        self._do(self._calls.retry(job, force=force))

    def edit(self, job: SupportsIndex, *, payload: Any = calls.UNCHANGED, **changes: Unpack[Changes]) -> Edited:
        """Change a job that does not run; what is not given stays. `tags` are added, `untag` taken away.

        Args:
            job: its id.
            payload: what its handler gets from now on.
            changes: queue, priority, delay, at, timeout, max_attempts, tags, untag, task, version; as for `enqueue`.

        Returns:
            id, queue and state as they are then.

        Raises:
            UnknownJob, UnknownQueue: there is none.
            WrongState: it is running; or it is final, and was given a time.
            InvalidPayload, PayloadTooLarge: as for a new job.
        """
        return self._do(self._calls.edit(job, payload, changes))

    def fetch(
        self, queue: str, jobs: int = 1, *, lease: Duration | None = None, wait: Duration = "30s",
        consumer: str | None = None,
    ) -> list[FetchedJob]:  # fmt: skip
        """Take up to so many ready jobs of a queue with `pull = true`, as soon as there are any; none after `wait`.

        They are this consumer's until `lease` is over; docs/pull.md says what is promised.

        Args:
            queue: its name.
            jobs: at most so many, 1 to 256; they have one token.
            lease: how long they are held, unless `extend` says more; None: as long as the queue's `timeout` says.
            wait: how long to wait for the first of them.
            consumer: a name to be seen by; else the number of this process is.

        Raises:
            UnknownQueue: no such queue.
            WrongState: it has workers of its own.
            Denied: this user may not consume.
        """
        return self._do(self._calls.fetch(queue, jobs, lease, wait, consumer))

    def extend(self, token: int, lease: Duration | None = None) -> Extended:
        """Hold a lease for so long from now; None: for as long as before. What it has, and what was cancelled.

        Raises:
            StaleLease: it is over; its jobs may be with another consumer.
        """
        return self._do(self._calls.extend(token, lease))

    def ack(
        self, job: SupportsIndex, token: int, result: Any = None, *, enqueue: Iterable[Mapping[str, Any]] = ()
    ) -> Settled:
        """A leased job is done; what it is now. Said again under the same token, it changes nothing and is no error.

        Args:
            job: its id.
            token: that of its lease.
            result: anything that JSON can hold.
            enqueue: jobs that come into being with this, or nothing happens: each with `queue`, `payload` and options
                as `enqueue` has them; `joins=True` makes one a step of the job's own flow.

        Raises:
            StaleLease: the lease does not hold it any more; nothing was changed.
            JobsupError: as `enqueue`, for the result and what is to be enqueued; the job is still leased.
        """
        return self._do(self._calls.ack(job, token, result, enqueue))

    def fail(
        self, job: SupportsIndex, token: int, message: str, *, type: str | None = None,  # noqa: A002
        traceback: str | None = None, retry_in: Duration | None = None, final: bool = False,
    ) -> Settled:  # fmt: skip
        """A leased job has failed: again as its queue says, or after `retry_in`, or, if `final`, dead. What it is now.

        `type` is what `on_error` of the queue and groups of dead letters go by, such as the class of an exception. Of a
        `message` or `traceback` above 16,384 characters the middle is left out.

        Raises:
            StaleLease: the lease does not hold it any more; nothing was changed.
        """
        given = {"type": type, "traceback": traceback, "retry_in": retry_in, "final": final}
        return self._do(self._calls.fail(job, token, message, given))

    def release(
        self, token: int, jobs: Iterable[SupportsIndex] | None = None, *, delay: Duration | None = None
    ) -> list[int]:
        """Hand jobs of a lease back, all or those named; nothing is charged. With `delay` they run that much later.

        Raises:
            StaleLease: the lease does not hold one of them any more; nothing was changed.
        """
        return self._do(self._calls.release(token, jobs, delay))

    def consumers(self) -> list[dict[str, Any]]:
        """Who holds jobs of queues with `pull = true`, lease by lease, and who waits for some."""
        return self._do(self._calls.consumers())

    def schedule(self, name: str, queue: str, payload: Any = None, **keys: Any) -> ScheduleStatus:
        """Add a schedule, or change one that was added; all about it.

        Args:
            name: its name, as queues are named.
            queue: where its jobs go.
            payload: what each of its jobs gets.
            keys: `cron` or `every`, and any other key of `[schedules.NAME]`: docs/schedules.md. Durations and
                instants are text.

        Raises:
            UsageError: a key is wrong; every problem is named.
            UnknownQueue: no such queue.
            WrongState: the configuration has a schedule of this name.
        """
        return self._do(self._calls.schedule(name, queue, payload, keys))

    def unschedule(self, name: str) -> None:
        """Remove a schedule that was added; its jobs stay.

        Raises:
            UnknownSchedule: no schedule has that name.
            WrongState: it is in the configuration, and is removed there.
        """
        self._do(self._calls.unschedule(name))

    def schedules(self) -> list[ScheduleStatus]:
        """Every schedule, in the order of their names."""
        return self._do(self._calls.schedules())

    def request(self, op: str, /, *, timeout_s: float | None = None, **members: Any) -> dict[str, Any]:
        """Any operation of docs/protocol.md, by its name and members; what it answers.

        Raises:
            JobsupError: of the class of the code that it answers, or as `enqueue`.
        """
        return self._do(self._calls.request(op, timeout_s, members))

    def flush(self) -> None:
        """Buffered: send all that is gathered, and wait for the answers.

        Raises:
            JobsupError: some of it failed since the last flush; the class is that of the first failure.
        """
        if self._buffer:
            self._buffer.flush()

    def close(self) -> None:
        """Flush, and close the connections; tolerates being called again.

        Raises:
            JobsupError: as `flush`.
        """
        try:
            if self._buffer:
                self._buffer.close()
        finally:
            self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enqueue(self, queue: str, jobs: Sequence[str], request_key: str | None) -> list[Ticket]:
        if self._buffer is None:
            return cast("list[Ticket]", self._do(self._calls.ids(queue, jobs, request_key)))
        if request_key is not None:
            raise UsageError("request_key needs a client that is not buffered")
        return cast("list[Ticket]", self._buffer.add(queue, jobs)) if jobs else []

    def _do(self, steps: calls.Steps[Result]) -> Result:
        return perform(steps, self._channel.ask)

    def _dial(self) -> Stream:
        sock, keeper = self._reach.open()
        return Stream(sock, boot_ms, keeper)


if not TYPE_CHECKING:

    def __getattr__(name):
        """`AsyncClient` is here when it is asked for: who does without it does without asyncio."""
        if name != "AsyncClient":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from supervisor.async_client import AsyncClient

        return AsyncClient
