"""What each way of a client asks, step by step, whoever does the asking: requests are written and answers read here.

Each method is a generator for `steps.perform` or its like: it yields a `Call`, is sent the answer, and returns what
the client's method returns.
"""

from __future__ import annotations

import operator
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from supervisor.errors import JobsupError, UsageError, WaitTimeout, error_of_code
from supervisor.wire.asking import CLOSED, Call, Clock, Names, members_text
from supervisor.wire.job_text import error_text, job_text, members
from supervisor.wire.sift import sifting

if TYPE_CHECKING:
    from supervisor.job import Duration
    from supervisor.shapes import (
        Changes,
        Edited,
        Explanation,
        Extended,
        FetchedJob,
        Inserted,
        JobStatus,
        Overview,
        ScheduleStatus,
        Settled,
    )

Result = TypeVar("Result")
Steps = Generator[Call, dict[str, Any], Result]

IDEMPOTENCY_KEY = "idempotency_key"

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

_NO_OPTIONS = frozenset({"queue", "untag"})
"""What `edit` changes that is no option of a new job."""

_PLAIN_S_MAX = 86_400
"""Whole seconds up to this need no module to be understood."""


class Calls:
    """The calls of one client, each of which may take `timeout`."""

    def __init__(self, names: Names, clock_ms: Clock, timeout: Duration) -> None:
        self._names = names
        self._clock_ms = clock_ms
        self._timeout_ms = to_ms(timeout)

    def insert(self, queue: str, jobs: Sequence[str], request_key: str | None) -> Steps[Inserted]:
        """Jobs, as JSON text, that go in all or none."""
        return cast("Inserted", (yield self._enqueueing(queue, jobs, within_ms(self._timeout_ms), request_key)))

    def ids(self, queue: str, jobs: Sequence[str], request_key: str | None = None) -> Steps[list[int]]:
        """As `insert`; the ids. Of nothing nothing is asked."""
        if not jobs:
            return []
        return (yield from self.insert(queue, jobs, request_key))["ids"]

    def each(self, queue: str, payloads: Iterable[Any], options: Mapping[str, Any]) -> Steps[list[int | JobsupError]]:
        """Jobs that go in each for itself; their ids or errors."""
        given, listed = members(options), list(payloads)
        if len(listed) > 1:
            refuse_one_key(given)
        jobs = [_text_or_error(payload, given) for payload in listed]
        until_ms = self._clock_ms() + within_ms(self._timeout_ms)  # of all parts, should the queue have to make room

        def send(part: Sequence[str]) -> Steps[list[int]]:
            within = max(until_ms - self._clock_ms(), 0)
            return cast("list[int]", (yield self._enqueueing(queue, part, within))["ids"])

        sent = iter((yield from sifting([job for job in jobs if isinstance(job, str)], send)))
        return [next(sent) if isinstance(job, str) else job for job in jobs]

    def job(self, job: object) -> Steps[JobStatus]:
        """All about a job."""
        return cast("JobStatus", (yield self._call("job", job=_id_of(job))))

    def overview(self) -> Steps[Overview]:
        """The daemon and its queues."""
        return cast("Overview", (yield self._call("status")))

    def explain(self, job: object) -> Steps[Explanation]:
        """Why a job is not running."""
        return cast("Explanation", (yield self._call("explain", job=_id_of(job))))

    def wait(self, job: object, timeout: Duration | None) -> Steps[JobStatus]:
        """A job once it is final, asked for in slices: the keeper answers each when the job ends."""
        job_id = _id_of(job)
        end_ms = None if timeout is None else self._clock_ms() + to_ms(timeout)
        while True:
            slice_ms = WAIT_SLICE_MS if end_ms is None else min(max(end_ms - self._clock_ms(), 0), WAIT_SLICE_MS)
            text = members_text("wait", {"job": job_id, "timeout_ms": slice_ms})
            try:
                return cast("JobStatus", (yield Call("wait", text, slice_ms + self._timeout_ms)))
            except WaitTimeout:
                if end_ms is not None and self._clock_ms() >= end_ms:
                    raise

    def cancel(self, job: object) -> Steps[None]:
        """End a job that is not final."""
        _raise_failed((yield self._call("cancel", ids=[_id_of(job)])))

    def retry(self, job: object, *, force: bool) -> Steps[None]:
        """Run a final job again."""
        _raise_failed((yield self._call("retry", ids=[_id_of(job)], force=force)))

    def edit(self, job: object, payload: Any, changes: Changes) -> Steps[Edited]:
        """Change a job that does not run."""
        options = {name: value for name, value in changes.items() if name not in _NO_OPTIONS}
        queue, untag = changes.get("queue"), changes.get("untag")
        others: dict[str, Any] = {} if queue is None else {"queue": queue}
        others |= {} if untag is None else {"untag": list(untag)}
        given = {"job": _id_of(job), **others, **members(options), "within_ms": within_ms(self._timeout_ms)}
        text = members_text("edit", given)
        if payload is not UNCHANGED:
            text = f"{text},{job_text(payload, {})[1:-1]}"
        return cast("Edited", (yield Call("edit", text, self._timeout_ms)))

    def fetch(
        self, queue: str, jobs: int, lease: Duration | None, wait: Duration, consumer: str | None
    ) -> Steps[list[FetchedJob]]:
        """Jobs of a queue that consumers serve, asked for in slices, each under a key of its own.

        A client that is closed meanwhile takes back what waits: there was nothing.
        """
        end_ms = self._clock_ms() + to_ms(wait)
        given = {"queue": queue, "jobs_max": jobs, "lease_ms": _ms_of(lease), "consumer": consumer}
        found: list[FetchedJob] | None = None
        while True:
            slice_ms = min(max(end_ms - self._clock_ms(), 0), WAIT_SLICE_MS)
            given["key"] = self._names.key()
            text = members_text("fetch", {**given, "wait_ms": slice_ms})
            try:
                found = (yield Call("fetch", text, slice_ms + self._timeout_ms, members_text("fetch", given)))["jobs"]
            except UsageError as error:
                if found is None or error.message != CLOSED:
                    raise
                return []
            if found or self._clock_ms() >= end_ms:
                return cast("list[FetchedJob]", found)

    def extend(self, token: int, lease: Duration | None) -> Steps[Extended]:
        """Hold a lease longer."""
        return cast("Extended", (yield self._call("extend", token=token, lease_ms=_ms_of(lease))))

    def ack(self, job: object, token: int, result: Any, children: Iterable[Mapping[str, Any]]) -> Steps[Settled]:
        """A job that was fetched is done."""
        from supervisor.wire import payload as payloads
        from supervisor.wire.job_text import child_text

        given = {"job": _id_of(job), "token": token, "within_ms": within_ms(self._timeout_ms)}
        along = ",".join(map(child_text, children))
        text = f'{members_text("ack", given)},"result":{payloads.encode(result, "the result")},"enqueue":[{along}]'
        return cast("Settled", (yield Call("ack", text, self._timeout_ms)))

    def fail(self, job: object, token: int, message: str, given: Mapping[str, Any]) -> Steps[Settled]:
        """A job that was fetched has failed."""
        if not isinstance(message, str):
            raise UsageError(f"the message of a failure is a text, and not {message!r}", hint="of an error: str(error)")
        told = {name: value for name, value in given.items() if name != "retry_in"}
        told |= {"message": error_text(message), "retry_in_ms": _ms_of(given.get("retry_in"))}
        if given.get("traceback") is not None:
            told["traceback"] = error_text(given["traceback"])
        return cast("Settled", (yield self._call("fail", job=_id_of(job), token=token, **told)))

    def release(self, token: int, jobs: Iterable[object] | None, delay: Duration | None) -> Steps[list[int]]:
        """Jobs that were fetched are handed back."""
        ids = None if jobs is None else [_id_of(job) for job in jobs]
        return cast("list[int]", (yield self._call("release", token=token, ids=ids, delay_ms=_ms_of(delay)))["done"])

    def consumers(self) -> Steps[list[dict[str, Any]]]:
        """Who has fetched jobs, and who waits for some."""
        return cast("list[dict[str, Any]]", (yield self._call("consumers"))["consumers"])

    def schedule(self, name: str, queue: str, payload: Any, keys: Mapping[str, Any]) -> Steps[ScheduleStatus]:
        """Add a schedule, or change one that was added."""
        values = {"queue": queue, **({} if payload is None else {"payload": payload}), **keys}
        return cast("ScheduleStatus", (yield self._call("cron_add", name=name, schedule=values)))

    def unschedule(self, name: str) -> Steps[None]:
        """Remove a schedule that was added."""
        yield self._call("cron_remove", name=name)

    def schedules(self) -> Steps[list[ScheduleStatus]]:
        """Every schedule, page by page."""
        found: list[ScheduleStatus] = []
        after = None
        while True:
            page = yield self._call("cron_list", after=after)
            found += page["schedules"]
            after = page["next"]
            if after is None:
                return found

    def request(self, op: str, timeout_s: float | None, given: Mapping[str, Any]) -> Steps[dict[str, Any]]:
        """Any operation."""
        timeout_ms = self._timeout_ms if timeout_s is None else to_ms(timeout_s)
        return (yield self._call(op, timeout_ms, **given))

    def start_flow(self, text: str, request_key: str | None) -> Steps[dict[str, Any]]:
        """A flow, or more steps of one, by its members as JSON text."""
        given = {"key": request_key or self._names.key(), "within_ms": within_ms(self._timeout_ms)}
        return (yield Call("flow_start", f"{members_text('flow_start', given)},{text}", self._timeout_ms))

    def signal_flow(self, text: str) -> Steps[dict[str, Any]]:
        """A signal, by its members as JSON text."""
        return (yield Call("flow_signal", f'"within_ms":{within_ms(self._timeout_ms)},{text}', self._timeout_ms))

    def _call(self, op: str, timeout_ms: int | None = None, /, **given: Any) -> Call:
        timeout_ms = self._timeout_ms if timeout_ms is None else timeout_ms
        if op in WRITING:
            given.setdefault("within_ms", within_ms(timeout_ms))
        return Call(op, members_text(op, given), timeout_ms)

    def _enqueueing(self, queue: str, jobs: Sequence[str], within: int, request_key: str | None = None) -> Call:
        """One group, all or none. The daemon is told to answer a little earlier than we stop waiting, or by then."""
        given = {"queue": queue, "key": request_key or self._names.key(), "within_ms": within}
        return Call("enqueue", f'{members_text("enqueue", given)},"jobs":[{",".join(jobs)}]', self._timeout_ms)


def texts(payloads: Iterable[Any], options: Mapping[str, Any], keys: Iterable[str | None] | None = None) -> list[str]:
    """Payloads as jobs with the same options, ready to stand in a request; `keys`: the idempotency key of each.

    Raises:
        InvalidPayload: one of them, or an option, cannot be written.
        UsageError: several have one idempotency key; or there is not one key for each payload.
    """
    given, listed = members(options), list(payloads)
    if keys is None:
        if len(listed) > 1:
            refuse_one_key(given)
        return [job_text(payload, given) for payload in listed]
    named = [keys] if isinstance(keys, str) else list(keys)
    if len(named) != len(listed) or IDEMPOTENCY_KEY in given:
        raise UsageError(f"idempotency_keys has one key for each payload: {len(named)} are given for {len(listed)}")
    own = [given if key is None else {**given, IDEMPOTENCY_KEY: key} for key in named]
    return [job_text(payload, options) for payload, options in zip(listed, own, strict=True)]


def refuse_one_key(options: Mapping[str, Any]) -> None:
    """Refuse a key for all jobs of a call: only the first of them would be there, which nobody means.

    Raises:
        UsageError: the options have one.
    """
    if options.get(IDEMPOTENCY_KEY) is not None:
        raise UsageError(
            "idempotency_key names one job, and this call makes several",
            hint="give enqueue_many idempotency_keys, one for each payload",
        )


def texts_of(jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Jobs as the protocol writes them, each with its own options, ready to stand in a request."""
    return [job_text(job["payload"], {k: v for k, v in job.items() if k != "payload"}) for job in jobs]


def within_ms(timeout_ms: int) -> int:
    """When the daemon is to have answered: sooner than we stop waiting, by what a failing commit and a reply take."""
    spare_ms = min(max(timeout_ms // 10, 300), timeout_ms * 2 // 5)  # under half: too short for another try
    return min(timeout_ms - spare_ms, WITHIN_MAX_MS)


def to_ms(duration: Duration) -> int:
    """Milliseconds of a duration that concerns the call, not the job.

    Raises:
        UsageError: it is none.
    """
    if type(duration) is int and 0 <= duration <= _PLAIN_S_MAX:
        return duration * 1000
    from supervisor.policy.duration import to_ms as read

    try:
        return read(duration)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _ms_of(duration: Duration | None) -> int | None:
    return None if duration is None else to_ms(duration)


def patience_ms(patience: Duration | None, *, one_shot: bool) -> int | None:
    """How long nobody listening is put up with: what was said, else not at all where only a daemon will do."""
    if patience is None:
        return None if one_shot else 0
    return to_ms(patience)


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
