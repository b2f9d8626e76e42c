"""The public client for event loops: as `supervisor.client.Client`, with `await`.

    async with AsyncClient("etc/queues.toml") as client:
        job_id = await client.enqueue("emails", {"to": "a@b.c"}, delay="5m")
        await client.wait(job_id, timeout=30)

What is asked and what an answer means is written once, for both, in `supervisor.wire.calls` and `.asking`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, SupportsIndex, TypeVar, Unpack, overload

from supervisor.errors import JobsupError
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
from supervisor.unix.clock import boot_ms
from supervisor.wire import calls
from supervisor.wire.asking import Names
from supervisor.wire.async_channel import AsyncChannel
from supervisor.wire.reach import Reach

if TYPE_CHECKING:
    from supervisor.wire.flows import AsyncFlows

Result = TypeVar("Result")

STREAM_JOBS = 500
"""`enqueue_stream` sends at most so many jobs together, and reads at most so many ahead."""


class AsyncClient:
    """A client of one daemon for the calls of one event loop, as many at a time as it makes. They share a connection.

    A call may be cancelled, by `asyncio.timeout` for example: that breaks nothing for the others. What had been sent
    by then may be carried out. After a fork, parent and child each go on for themselves, each in a loop of its own;
    after the end of a loop the client may be used in another.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | None = None,
        *,
        socket: str | None = None,
        overrides: Sequence[str] = (),
        timeout: Duration = 30,
        one_shot: bool = True,
        patience: Duration | None = None,
    ) -> None:
        """Connects with the first call, not before. Needs no running loop.

        Args:
            config: the configuration file, for the path of the socket and for a one-shot keeper.
            socket: the path of the socket. Without `config`, no file is read and no one-shot keeper started.
            overrides: "section.key=value", put over the values of the configuration.
            timeout: how long a call may take; within it, what breaks is made good and repeated.
            one_shot: False: start no keeper, and do not wait for a daemon. Inside a handler none is started.
            patience: how long a daemon that is not there is waited for, where no keeper may be started;
                None: for `timeout`, or not at all with `one_shot=False`.

        Raises:
            ConfigError: there is no configuration, or it cannot be used.
        """
        names = Names()
        self._calls = calls.Calls(names, boot_ms, timeout)
        reach = Reach.find(config, socket, overrides, one_shot=one_shot)
        patience_ms = calls.patience_ms(patience, one_shot=one_shot)
        self._channel = AsyncChannel(reach.open, boot_ms, names, patience_ms)

    async def enqueue(
        self, queue: str, payload: Any = None, *, request_key: str | None = None, **options: Unpack[JobOptions]
    ) -> int:
        """Enqueue one job; its id, returned when the daemon has acknowledged it.

        Args:
            queue: its name.
            payload: anything that JSON can hold.
            options: those of `Client.enqueue`, which explains them.
            request_key: your own key for this request. Within 10 minutes the same key returns the same job, so
                that you can repeat what ended with Unconfirmed or was cancelled.

        Raises:
            UnknownQueue: no such queue.
            InvalidPayload, PayloadTooLarge: the payload or an option cannot be stored as it is.
            Denied: this user may not enqueue.
            Busy, NotRunning: it was not enqueued; the same call may succeed later.
            Unconfirmed: it was sent, and the answer was lost: it may or may not be enqueued.
        """
        (job_id,) = await self._do(self._calls.ids(queue, calls.texts([payload], options), request_key))
        return job_id

    async def enqueue_many(
        self,
        queue: str,
        payloads: Iterable[Any] | AsyncIterable[Any],
        *,
        idempotency_keys: Iterable[str | None] | None = None,
        request_key: str | None = None,
        **options: Unpack[JobOptions],
    ) -> list[int]:
        """Enqueue many jobs, all or none, with the same options; their ids in the same order.

        Of an async iterable, all is read before anything is sent. At most 10,000 jobs and 16 MiB together.
        `idempotency_keys`: the `idempotency_key` of each, in the order of the payloads, or None for one without.

        Raises:
            PayloadTooLarge: more than that.
            UsageError: there is not one key for each payload.
            JobsupError: as `enqueue`.
        """
        jobs = calls.texts(await _gathered(payloads), options, idempotency_keys)
        return await self._do(self._calls.ids(queue, jobs, request_key))

    async def enqueue_each(
        self, queue: str, payloads: Iterable[Any] | AsyncIterable[Any], **options: Unpack[JobOptions]
    ) -> list[int | JobsupError]:
        """Enqueue many jobs, each for itself: its id, or the error that kept it out.

        Of more than a bounded queue has room for, the first go in. An error that is no job's fault (Busy,
        UnknownQueue) stands for each job that it hit.
        """
        return await self._do(self._calls.each(queue, await _gathered(payloads), options))

    async def enqueue_stream(
        self, queue: str, payloads: AsyncIterable[Any], **options: Unpack[JobOptions]
    ) -> AsyncGenerator[int | JobsupError, None]:
        """Enqueue what comes, however much and for however long; each id or error in turn, as `enqueue_each`.

        What comes while a group is under way goes together as the next one: a slow source waits for nothing, a fast
        one is sent in large groups. Reads no further ahead than its caller takes outcomes. What the source raises is
        raised when all that came before it is answered.
        """
        calls.refuse_one_key(options)
        waiting: asyncio.Queue[Any] = asyncio.Queue(STREAM_JOBS)
        reader = asyncio.create_task(_pour(payloads, waiting))
        try:
            end = None
            while end is None:
                group, end = await _next_group(waiting)
                for outcome in await self.enqueue_each(queue, group, **options):
                    yield outcome
            if end.error is not None:
                raise end.error
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def insert(
        self, queue: str, jobs: Iterable[Mapping[str, Any]], *, request_key: str | None = None
    ) -> Inserted:
        """Enqueue jobs as docs/protocol.md writes them, each with its own options, all or none.

        Returns:
            All that the daemon says: ids, states, acknowledged, repeated, existing.

        Raises:
            JobsupError: as `enqueue`.
        """
        return await self._do(self._calls.insert(queue, calls.texts_of(jobs), request_key))

    @overload
    async def status(self, job: None = None) -> Overview: ...

    @overload
    async def status(self, job: SupportsIndex) -> JobStatus: ...

    async def status(self, job: SupportsIndex | None = None) -> JobStatus | Overview:
        """All about a job; without one, the daemon and the counts of its queues.

        Raises:
            UnknownJob: no job has that id.
        """
        return await (self._do(self._calls.overview()) if job is None else self._do(self._calls.job(job)))

    async def explain(self, job: SupportsIndex) -> Explanation:
        """Why a job is not running: `sentence`, and all `reasons`, each with its numbers.

        Raises:
            UnknownJob: no job has that id.
        """
        return await self._do(self._calls.explain(job))

    async def wait(self, job: SupportsIndex, timeout: Duration | None = None) -> JobStatus:
        """The job's status once it is final: completed, dead or cancelled. `timeout` None: however long it takes.

        The daemon answers when the job ends; nothing is polled.

        Raises:
            WaitTimeout: it was not in time.
            UnknownJob: no job has that id.
        """
        return await self._do(self._calls.wait(job, timeout))

    @cached_property
    def flows(self) -> AsyncFlows:
        """What can be asked of flows, as `Client.flows`."""
        from supervisor.wire.flows import AsyncFlows

        return AsyncFlows(self._calls, self._do)

    async def cancel(self, job: SupportsIndex) -> None:
        """Cancel a job that is not final; one that runs is interrupted.

        Raises:
            UnknownJob: no job has that id.
            WrongState: it is final.
        """
        await self._do(self._calls.cancel(job))

    async def retry(self, job: SupportsIndex, *, force: bool = False) -> None:
        """Run a final job again, under its id. A completed one only with `force`.

        Raises:
            UnknownJob: no job has that id.
            WrongState: it is not final, or completed.
        """
        await self._do(self._calls.retry(job, force=force))

    async def edit(self, job: SupportsIndex, *, payload: Any = calls.UNCHANGED, **changes: Unpack[Changes]) -> Edited:
        """Change a job that does not run; what is not given stays. As `Client.edit`.

        Raises:
            UnknownJob, UnknownQueue: there is none.
            WrongState: it is running; or it is final, and was given a time.
            InvalidPayload, PayloadTooLarge: as for a new job.
        """
        return await self._do(self._calls.edit(job, payload, changes))

    async def fetch(
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
        return await self._do(self._calls.fetch(queue, jobs, lease, wait, consumer))

    async def extend(self, token: int, lease: Duration | None = None) -> Extended:
        """Hold a lease for so long from now; None: for as long as before. What it has, and what was cancelled.

        Raises:
            StaleLease: it is over; its jobs may be with another consumer.
        """
        return await self._do(self._calls.extend(token, lease))

    async def ack(
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
        return await self._do(self._calls.ack(job, token, result, enqueue))

    async def fail(
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
        return await self._do(self._calls.fail(job, token, message, given))

    async def release(
        self, token: int, jobs: Iterable[SupportsIndex] | None = None, *, delay: Duration | None = None
    ) -> list[int]:
        """Hand jobs of a lease back, all or those named; nothing is charged. With `delay` they run that much later.

        Raises:
            StaleLease: the lease does not hold one of them any more; nothing was changed.
        """
        return await self._do(self._calls.release(token, jobs, delay))

    async def consumers(self) -> list[dict[str, Any]]:
        """Who holds jobs of queues with `pull = true`, lease by lease, and who waits for some."""
        return await self._do(self._calls.consumers())

    async def schedule(self, name: str, queue: str, payload: Any = None, **keys: Any) -> ScheduleStatus:
        """Add a schedule, or change one that was added; all about it. As `Client.schedule`.

        Raises:
            UsageError: a key is wrong; every problem is named.
            UnknownQueue: no such queue.
            WrongState: the configuration has a schedule of this name.
        """
        return await self._do(self._calls.schedule(name, queue, payload, keys))

    async def unschedule(self, name: str) -> None:
        """Remove a schedule that was added; its jobs stay.

        Raises:
            UnknownSchedule: no schedule has that name.
            WrongState: it is in the configuration, and is removed there.
        """
        await self._do(self._calls.unschedule(name))

    async def schedules(self) -> list[ScheduleStatus]:
        """Every schedule, in the order of their names."""
        return await self._do(self._calls.schedules())

    async def request(self, op: str, /, *, timeout_s: float | None = None, **members: Any) -> dict[str, Any]:
        """Any operation of docs/protocol.md, by its name and members; what it answers.

        Raises:
            JobsupError: of the class of the code that it answers, or as `enqueue`.
        """
        return await self._do(self._calls.request(op, timeout_s, members))

    async def close(self) -> None:
        """Take no more calls, and close the connections; tolerates being called again.

        Calls under way in other tasks still get their answers. A one-shot keeper has ended when this returns.
        """
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(self, steps: calls.Steps[Result]) -> Result:
        """As `steps.perform`, awaiting each answer."""
        try:
            call = next(steps)
            while True:
                try:
                    answer = await self._channel.ask(call)
                except JobsupError as error:
                    call = steps.throw(error)
                else:
                    call = steps.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result


async def _gathered(payloads: Iterable[Any] | AsyncIterable[Any]) -> Iterable[Any]:
    return [payload async for payload in payloads] if isinstance(payloads, AsyncIterable) else payloads


class _End:
    """There is no more of a stream: it is over, or has failed."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


async def _pour(payloads: AsyncIterable[Any], waiting: asyncio.Queue[Any]) -> None:
    """All that comes, and how it ended."""
    error: BaseException | None = None
    try:
        async for payload in payloads:
            await waiting.put(payload)
    except asyncio.CancelledError as raised:
        if _being_cancelled():
            raise
        error = raised  # of something that the source has waited for
    except Exception as raised:  # noqa: BLE001 - raised where the stream is read, behind what came before it
        error = raised
    await waiting.put(_End(error))


def _being_cancelled() -> bool:
    """Whether the running task is the one that is cancelled. Its frame must not hold it: that would be a cycle."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _next_group(waiting: asyncio.Queue[Any]) -> tuple[list[Any], _End | None]:
    """What has come, at least one payload, or the end."""
    group: list[Any] = []
    while not group or (len(group) < STREAM_JOBS and not waiting.empty()):
        payload = await waiting.get()
        if isinstance(payload, _End):
            return group, payload
        group.append(payload)
    return group, None
