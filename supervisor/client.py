"""The public Python client: enqueue jobs, look at them, wait for them.

    with Client("etc/queues.toml") as client:
        job_id = client.enqueue("emails", {"to": "a@b.c"}, delay="5m")
        client.wait(job_id, timeout=30)

It speaks to the daemon over its socket. Where none runs, it starts a keeper of its own, which writes the jobs
down for the daemon that comes. Imports little, so that programs that enqueue once and end are quick.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, SupportsIndex, TypeVar, cast, overload

from supervisor.errors import JobsupError, UsageError, WaitTimeout, error_of_code
from supervisor.unix.clock import boot_ms
from supervisor.wire.client import Channel, Failed, Stream, connect
from supervisor.wire.job_text import job_text, members
from supervisor.wire.sift import sift

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from supervisor.job import Duration
    from supervisor.wire.buffer import Buffer, Receipt
    from supervisor.wire.flows import Flows

Ticket = TypeVar("Ticket")
"""What `enqueue` returns: the job's id, or, buffered, a receipt for it."""

WAIT_SLICE_MS = 60_000
"""`wait` asks again this often, so that a daemon that has gone is noticed."""

WITHIN_MAX_MS = 86_400_000
WRITING = frozenset(
    {
        "cancel",
        "retry",
        "pause",
        "resume",
        "key",
        "move",
        "purge",
        "dead_retry",
        "dead_delete",
        "dead_stop",
        "edit",
        "delete",
        "cron_add",
        "cron_remove",
        "cron_pause",
        "cron_resume",
        "cron_run",
        "flow_signal",
        "flow_close",
        "flow_cancel",
        "flow_retry",
        "extend",
        "ack",
        "fail",
        "release",
    }
)
"""Operations that wait for a commit: the daemon is told how long we wait for them."""

UNCHANGED: Any = object()
"""What `edit` takes for a payload that is not given: None is a payload."""

_PLAIN_S_MAX = 86_400
"""Whole seconds up to this need no module to be understood."""

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
        self._timeout_ms = _ms(timeout)
        self._overrides = tuple(overrides)
        self._path, self._config = _places(config, socket, self._overrides, os.environ)
        if not one_shot or "JOBSUP_WORKER" in os.environ:
            self._config = None
        if patience is None:
            patience = None if one_shot else 0
        self._channel = Channel(self._dial, boot_ms, None if patience is None else _ms(patience))
        self._buffer: Buffer | None = None
        if buffered:
            from supervisor.wire.buffer import Buffer

            self._buffer = Buffer(
                lambda queue, jobs: self._send(queue, jobs)["ids"],
                boot_ms,
                jobs_max=flush_jobs,
                bytes_max=FLUSH_BYTES,
                interval_ms=_ms(flush_interval),
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
            request_key: your own key for this request. Within 10 minutes the same key returns the same job, so
                that you can repeat what ended with Unconfirmed; without it, a repetition is another job.

        Raises:
            UnknownQueue: no such queue.
            InvalidPayload, PayloadTooLarge: the payload or an option cannot be stored as it is.
            Denied: this user may not enqueue.
            Busy, NotRunning: it was not enqueued; the same call may succeed later.
            Unconfirmed: it was sent, and the answer was lost: it may or may not be enqueued.
        """
        given = members(
            {"delay": delay, "at": at, "priority": priority, "timeout": timeout,
             "max_attempts": max_attempts, "tags": tags, "backoff": backoff, "retry_for": retry_for, "ttl": ttl,
             "expires": expires, "deadline": deadline, "key": key, "cost": cost, "task": task, "version": version}
        )  # fmt: skip
        return self._enqueue(queue, [job_text(payload, given)], request_key)[0]

    def enqueue_many(
        self, queue: str, payloads: Iterable[Any], *, request_key: str | None = None, **options: Any
    ) -> list[Ticket]:
        """Enqueue many jobs, all or none, with the same options as `enqueue` has; their ids in the same order.

        At most 10,000 jobs and 16 MiB together; for more, several calls.

        Raises:
            PayloadTooLarge: more than that.
            JobsupError: as `enqueue`.
        """
        given = members(options)
        jobs = [job_text(payload, given) for payload in payloads]
        return self._enqueue(queue, jobs, request_key) if jobs else []

    def enqueue_each(self, queue: str, payloads: Iterable[Any], **options: Any) -> list[int | JobsupError]:
        """Enqueue many jobs, each for itself: its id, or the error that kept it out. Options as `enqueue`.

        Of more than a bounded queue has room for, the first go in. An error that is no job's fault (Busy,
        UnknownQueue) stands for each job that it hit. Never buffered.
        """
        given = members(options)
        jobs = [_text_or_error(payload, given) for payload in payloads]
        until_ms = boot_ms() + within_ms(self._timeout_ms)  # of all parts, should the queue have to make room
        texts = [job for job in jobs if isinstance(job, str)]
        sent = iter(sift(texts, lambda part: self._send(queue, part, until_ms=until_ms)["ids"]))
        return [next(sent) if isinstance(job, str) else job for job in jobs]

    def insert(
        self, queue: str, jobs: Iterable[Mapping[str, Any]], *, request_key: str | None = None
    ) -> dict[str, Any]:
        """Enqueue jobs as docs/protocol.md writes them, each with its own options, all or none. Never buffered.

        Returns:
            All that the daemon says: ids, states, acknowledged, repeated.

        Raises:
            JobsupError: as `enqueue`.
        """
        texts = [job_text(job["payload"], {k: v for k, v in job.items() if k != "payload"}) for job in jobs]
        return self._send(queue, texts, request_key)

    def status(self, job: SupportsIndex | None = None) -> dict[str, Any]:
        """All about a job; without one, the daemon and the counts of its queues.

        Raises:
            UnknownJob: no job has that id.
        """
        return self.request("status") if job is None else self.request("job", job=_id_of(job))

    def explain(self, job: SupportsIndex) -> dict[str, Any]:
        """Why a job is not running: `sentence`, and all `reasons`, each with its numbers.

        Raises:
            UnknownJob: no job has that id.
        """
        return self.request("explain", job=_id_of(job))

    def wait(self, job: SupportsIndex, timeout: Duration | None = None) -> dict[str, Any]:
        """The job's status once it is final: completed, dead or cancelled. `timeout` None: however long it takes.

        Raises:
            WaitTimeout: it was not in time.
            UnknownJob: no job has that id.
        """
        job_id = _id_of(job)
        end_ms = None if timeout is None else boot_ms() + _ms(timeout)
        while True:
            slice_ms = WAIT_SLICE_MS if end_ms is None else min(max(end_ms - boot_ms(), 0), WAIT_SLICE_MS)
            try:
                return self._channel.request("wait", slice_ms + self._timeout_ms, job=job_id, timeout_ms=slice_ms)
            except WaitTimeout:
                if end_ms is not None and boot_ms() >= end_ms:
                    raise

    @cached_property
    def flows(self) -> Flows:
        """What can be asked of flows: start, show, list, signal, add, close, cancel, retry, wait."""
        from supervisor.wire.flows import Flows

        return Flows(self._start_flow, self.request, self._ask_writing, self.wait)

    def _start_flow(self, text: str, request_key: str | None) -> dict[str, Any]:
        given = {"key": request_key or self._channel.new_key(), "within_ms": within_ms(self._timeout_ms)}
        return self._channel.ask("flow_start", f"{_text_of(given)[1:-1]},{text}", self._timeout_ms)

    def _ask_writing(self, op: str, text: str) -> dict[str, Any]:
        return self._channel.ask(op, f'"within_ms":{within_ms(self._timeout_ms)},{text}', self._timeout_ms)

    def cancel(self, job: SupportsIndex) -> None:
        """Cancel a job that is not final; one that runs is interrupted.

        Raises:
            UnknownJob: no job has that id.
            WrongState: it is final.
        """
        _raise_failed(self.request("cancel", ids=[_id_of(job)]))

    def retry(self, job: SupportsIndex, *, force: bool = False) -> None:
        """Run a final job again, under its id. A completed one only with `force`.

        Raises:
            UnknownJob: no job has that id.
            WrongState: it is not final, or completed.
        """
        _raise_failed(self.request("retry", ids=[_id_of(job)], force=force))

    def edit(
        self, job: SupportsIndex, *, payload: Any = UNCHANGED, queue: str | None = None, priority: int | None = None,
        delay: Duration | None = None, at: datetime | str | None = None, timeout: Duration | None = None,
        max_attempts: int | None = None, tags: Iterable[str] | None = None, untag: Iterable[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Change a job that does not run; what is not given stays. `tags` are added, `untag` taken away.

        Returns:
            id, queue and state as they are then.

        Raises:
            UnknownJob, UnknownQueue: there is none.
            WrongState: it is running; or it is final, and was given a time.
            InvalidPayload, PayloadTooLarge: as for a new job.
        """
        given = members(
            {"delay": delay, "at": at, "priority": priority, "timeout": timeout,
             "max_attempts": max_attempts, "tags": tags}
        )  # fmt: skip
        others = {"job": _id_of(job), "queue": queue, "untag": None if untag is None else list(untag), **given}
        known = {name: value for name, value in others.items() if value is not None}
        text = _text_of(known | {"within_ms": within_ms(self._timeout_ms)}, "edit")[1:-1]
        if payload is not UNCHANGED:
            text = f"{text},{job_text(payload, {})[1:-1]}"
        return self._channel.ask("edit", text, self._timeout_ms)

    def fetch(
        self, queue: str, jobs: int = 1, *, lease: Duration | None = None, wait: Duration = "30s",
        consumer: str | None = None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Take up to so many ready jobs of a queue with `pull = true`, as soon as there are any; none after `wait`.

        They are this consumer's until `lease` is over. Each has an `id`, a `token` for what is said of it, and a
        `payload`; docs/pull.md lists the rest.

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
        end_ms = boot_ms() + _ms(wait)
        given = {"queue": queue, "jobs_max": jobs, "lease_ms": None if lease is None else _ms(lease),
                 "consumer": consumer}  # fmt: skip
        while True:
            slice_ms = min(max(end_ms - boot_ms(), 0), WAIT_SLICE_MS)
            more = {"wait_ms": slice_ms, "key": self._channel.new_key()}
            found: list[dict[str, Any]] = self._channel.request("fetch", slice_ms + self._timeout_ms, **given, **more)[
                "jobs"
            ]
            if found or boot_ms() >= end_ms:
                return found

    def extend(self, token: int, lease: Duration | None = None) -> dict[str, Any]:
        """Hold a lease for so long from now; None: for as long as before.

        Returns:
            `jobs` that it still holds, those of them that were `cancelled` meanwhile, and `until_at`.

        Raises:
            StaleLease: it is over; its jobs may be with another consumer.
        """
        return self.request("extend", token=token, lease_ms=None if lease is None else _ms(lease))

    def ack(
        self, job: SupportsIndex, token: int, result: Any = None, *, enqueue: Iterable[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """A leased job is done; what it is now. Said again under the same token, it changes nothing and is no error.

        Args:
            job: its id.
            token: that of its lease.
            result: anything that JSON can hold.
            enqueue: jobs that come into being with this, or nothing happens: each with `queue`, `payload` and options
                as `Client.enqueue` has them; `joins=True` makes one a step of the job's own flow.

        Raises:
            StaleLease: the lease does not hold it any more; nothing was changed.
            JobsupError: as `enqueue`, for the result and what is to be enqueued; the job is still leased.
        """
        from supervisor.wire import payload as payloads
        from supervisor.wire.job_text import child_text

        children = ",".join(map(child_text, enqueue))
        given = _text_of({"job": _id_of(job), "token": token}, "ack")[1:-1]
        return self._ask_writing("ack", f'{given},"result":{payloads.encode(result)},"enqueue":[{children}]')

    def fail(
        self, job: SupportsIndex, token: int, message: str, *, type: str | None = None,  # noqa: A002
        traceback: str | None = None, retry_in: Duration | None = None, final: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        """A leased job has failed: again as its queue says, or after `retry_in`, or, if `final`, dead. What it is now.

        `type` is what `on_error` of the queue and groups of dead letters go by, such as the class of an exception.

        Raises:
            StaleLease: the lease does not hold it any more; nothing was changed.
        """
        return self.request(
            "fail", job=_id_of(job), token=token, message=message, type=type, traceback=traceback,
            retry_in_ms=None if retry_in is None else _ms(retry_in), final=final,
        )  # fmt: skip

    def release(
        self, token: int, jobs: Iterable[SupportsIndex] | None = None, *, delay: Duration | None = None
    ) -> list[int]:
        """Hand jobs of a lease back, all or those named; nothing is charged. With `delay` they run that much later.

        Raises:
            StaleLease: the lease does not hold one of them any more; nothing was changed.
        """
        ids = None if jobs is None else [_id_of(job) for job in jobs]
        delay_ms = None if delay is None else _ms(delay)
        done: list[int] = self.request("release", token=token, ids=ids, delay_ms=delay_ms)["done"]
        return done

    def consumers(self) -> list[dict[str, Any]]:
        """Who holds jobs of queues with `pull = true`, lease by lease, and who waits for some."""
        found: list[dict[str, Any]] = self.request("consumers")["consumers"]
        return found

    def schedule(self, name: str, queue: str, payload: Any = None, **keys: Any) -> dict[str, Any]:
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
        values = {"queue": queue, **({} if payload is None else {"payload": payload}), **keys}
        return self.request("cron_add", name=name, schedule=values)

    def unschedule(self, name: str) -> None:
        """Remove a schedule that was added; its jobs stay.

        Raises:
            UnknownSchedule: no schedule has that name.
            WrongState: it is in the configuration, and is removed there.
        """
        self.request("cron_remove", name=name)

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule, in the order of their names."""
        found: list[dict[str, Any]] = []
        after = None
        while True:
            page = self.request("cron_list", after=after)
            found += page["schedules"]
            after = page["next"]
            if after is None:
                return found

    def request(self, op: str, /, *, timeout_s: float | None = None, **members: Any) -> dict[str, Any]:
        """Any operation of docs/protocol.md, by its name and members; what it answers.

        Raises:
            JobsupError: of the class of the code that it answers, or as `enqueue`.
        """
        timeout_ms = self._timeout_ms if timeout_s is None else _ms(timeout_s)
        if op in WRITING:
            members.setdefault("within_ms", within_ms(timeout_ms))
        return self._channel.request(op, timeout_ms, **members)

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
            return cast("list[Ticket]", self._send(queue, jobs, request_key)["ids"])
        if request_key is not None:
            raise UsageError("request_key needs a client that is not buffered")
        return cast("list[Ticket]", self._buffer.add(queue, jobs))

    def _send(
        self, queue: str, jobs: Sequence[str], request_key: str | None = None, *, until_ms: int | None = None
    ) -> dict[str, Any]:
        """One group, all or none. The daemon is told to answer a little earlier than we stop waiting, or by then."""
        given = {
            "queue": queue,
            "key": request_key or self._channel.new_key(),
            "within_ms": within_ms(self._timeout_ms) if until_ms is None else max(until_ms - boot_ms(), 0),
        }
        return self._channel.ask("enqueue", f'{_text_of(given)[1:-1]},"jobs":[{",".join(jobs)}]', self._timeout_ms)

    def _dial(self) -> Stream:
        try:
            return connect(self._path, boot_ms)
        except Failed as failed:
            if not failed.absent or self._config is None:
                raise
        from supervisor.wire import one_shot

        return one_shot.start(self._config, self._overrides, boot_ms)


def within_ms(timeout_ms: int) -> int:
    """When the daemon is to have answered: sooner than we stop waiting, by what a failing commit and a reply take."""
    spare_ms = min(max(timeout_ms // 10, 300), timeout_ms * 2 // 5)  # under half: too short for another try
    return min(timeout_ms - spare_ms, WITHIN_MAX_MS)


def _places(
    config: str | os.PathLike[str] | None, socket: str | None, overrides: tuple[str, ...], environ: Mapping[str, str]
) -> tuple[str, str | None]:
    """The path of the socket, and the configuration for a one-shot keeper: None where only a socket is known."""
    named = socket or (environ.get("JOBSUP_SOCKET") if config is None and not overrides else None)
    if named and config is None:
        return named, None
    from supervisor.config.locate import socket_path
    from supervisor.config.lookup import main_file

    main = main_file(config, environ)
    if named:
        return named, main
    if not overrides:
        return socket_path(main, environ), main
    from supervisor.config.load import load

    return load(main, overrides, environ).socket, main


def _ms(duration: Duration) -> int:
    """Milliseconds of a duration that concerns the call, not the job."""
    if type(duration) is int and 0 <= duration <= _PLAIN_S_MAX:
        return duration * 1000
    from supervisor.policy.duration import to_ms

    try:
        return to_ms(duration)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _text_of(given: dict[str, Any], op: str = "enqueue") -> str:
    try:
        return json.dumps(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"{op} cannot be asked with that: {error}") from None


def _text_or_error(payload: Any, options: dict[str, Any]) -> str | JobsupError:
    try:
        return job_text(payload, options)
    except JobsupError as error:
        return error


def _id_of(job: Any) -> Any:
    """The id that an integer or a receipt stands for. What is neither goes as it is: the daemon says what is wrong."""
    if isinstance(job, bool):
        return job
    try:
        return operator.index(job)
    except TypeError:
        return job


def _raise_failed(reply: dict[str, Any]) -> None:
    for failed in reply.get("failed") or ():
        raise error_of_code(failed["code"])(failed["message"], hint=failed.get("hint"))
