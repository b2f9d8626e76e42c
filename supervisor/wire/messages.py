"""The requests of the public protocol, read and checked on the keeper's side, and the replies to them.

docs/protocol.md describes all of it for people; a test compares the two. Payloads stay the text they were
(`msgspec.Raw`): the frame is read in one go, and `check_payload` reads each payload once, when the queue is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from supervisor.errors import InvalidFlow, InvalidPayload, JobsupError, PayloadTooLarge, UsageError
from supervisor.flow.rules import FlowState
from supervisor.job import (
    COST_MAX,
    GROUP_JOBS_MAX,
    JOB_ID_MAX,
    JOB_KEY_LENGTH_MAX,
    PRIORITY_MAX,
    PRIORITY_MIN,
    TAG_LENGTH_MAX,
    TAGS_MAX,
    TASK_NAME_MAX,
    VERSION_MAX,
    State,
)
from supervisor.policy.duration import MAX_MS
from supervisor.reading import read
from supervisor.version import PROTOCOL
from supervisor.wire import payload as payloads
from supervisor.wire import refusal

INSTANT_MAX_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: later ones have no RFC 3339 form."""

KEY_LENGTH_MAX = 64
ATTEMPTS_MAX = 1_000
WAIT_MAX_MS = 86_400_000
IDS_MAX = 10_000
WORKERS_MAX = 256
FETCH_JOBS_MAX = 256
LEASE_MAX_MS = 30 * 86_400_000
CONSUMER_LENGTH_MAX = 100
MESSAGE_LENGTH_MAX = 16 * 1024
NAME_LENGTH_MAX = 255
DELAYS_MAX = 32
TEXT_LENGTH_MAX = 1_000
SAID_MAX = 16 * 1024
"""So much of what is wrong is said: it may quote what it is about."""

RequestId = Annotated[int, Meta(ge=0, le=JOB_ID_MAX)]
Id = Annotated[int, Meta(ge=1, le=JOB_ID_MAX)]
Ids = Annotated[tuple[Id, ...], Meta(min_length=1, max_length=IDS_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH_MAX)]
Key = Annotated[str, Meta(pattern=rf"^[!-~]{{1,{KEY_LENGTH_MAX}}}\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=TEXT_LENGTH_MAX)]
Instant = Annotated[int, Meta(ge=0, le=INSTANT_MAX_MS)]
Delay = Annotated[int, Meta(ge=0, le=MAX_MS)]
Limit = Annotated[int, Meta(ge=1, le=MAX_MS)]
Patience = Annotated[int, Meta(ge=0, le=WAIT_MAX_MS)]
Priority = Annotated[int, Meta(ge=PRIORITY_MIN, le=PRIORITY_MAX)]
Attempts = Annotated[int, Meta(ge=1, le=ATTEMPTS_MAX)]
Delays = Annotated[tuple[Delay, ...], Meta(min_length=1, max_length=DELAYS_MAX)]
JobKey = Annotated[str, Meta(min_length=1, max_length=JOB_KEY_LENGTH_MAX)]
AskedKey = Annotated[str, Meta(max_length=JOB_KEY_LENGTH_MAX)]
"""What a job belongs to, in a filter; empty for jobs that belong to nothing."""
Cost = Annotated[int, Meta(ge=1, le=COST_MAX)]
TaskName = Annotated[str, Meta(pattern=rf"^[!-~]{{1,{TASK_NAME_MAX}}}\Z")]
Version = Annotated[int, Meta(ge=1, le=VERSION_MAX)]
Tag = Annotated[str, Meta(min_length=1, max_length=TAG_LENGTH_MAX)]
Tags = Annotated[tuple[Tag, ...], Meta(max_length=TAGS_MAX)]


class NewJob(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One job to insert. An option that is None was not given: the queue's own value counts."""

    payload: msgspec.Raw
    priority: Priority | None = None
    delay_ms: Delay | None = None
    due_at_ms: Instant | None = None
    timeout_ms: Limit | None = None
    max_attempts: Attempts | None = None
    tags: Tags = ()
    backoff_ms: Delays | None = None
    retry_for_ms: Limit | None = None
    ttl_ms: Limit | None = None
    expires_at_ms: Instant | None = None
    deadline_ms: Limit | None = None
    deadline_at_ms: Instant | None = None
    key: JobKey | None = None
    cost: Cost | None = None
    task: TaskName | None = None
    version: Version | None = None
    idempotency_key: JobKey | None = None


FLOW_DEPTH_MAX = 8
StepName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")]
Word = Literal["cancel", "ignore", "continue"]
After = tuple[StepName, ...] | dict[StepName, Word]


class CallbackJob(NewJob, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """The job that a flow enqueues when it ends."""

    queue: Name
    payload: msgspec.Raw = msgspec.Raw(b"null")


class Step(NewJob, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A step of a flow: a job for a queue, or, with `steps`, a flow of its own."""

    payload: msgspec.Raw = msgspec.Raw(b"null")
    name: StepName | None = None
    queue: Name | None = None
    after: After = ()
    when: Text | None = None
    wait_for: tuple[StepName, ...] = ()
    steps: tuple[Step, ...] | None = None
    on_success: CallbackJob | None = None
    on_complete: CallbackJob | None = None
    on_death: CallbackJob | None = None


Consumer = Annotated[str, Meta(min_length=1, max_length=CONSUMER_LENGTH_MAX)]
LeaseTime = Annotated[int, Meta(ge=1, le=LEASE_MAX_MS)]
Message = Annotated[str, Meta(max_length=MESSAGE_LENGTH_MAX)]


class ChildJob(NewJob, frozen=True, gc=False, forbid_unknown_fields=True, kw_only=True):
    """A job that comes into being with the completion of another; with `joins`, as a step of its flow."""

    queue: Name
    payload: msgspec.Raw = msgspec.Raw(b"null")
    joins: bool = False


Fingerprint = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
Jobs = Annotated[int, Meta(ge=1, le=JOB_ID_MAX)]
PaceJobs = Annotated[int, Meta(ge=1, le=1_000_000)]


class Filter(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Which dead letters are meant; every member given must hold. One that names nothing is refused."""

    queue: Name | None = None
    ids: Ids | None = None
    type: Text | None = None
    before_ms: Instant | None = None
    after_ms: Instant | None = None
    text: Text | None = None
    fingerprint: Fingerprint | None = None
    key: AskedKey | None = None


class Request(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, tag_field="op", kw_only=True):
    """Base of all requests. `access` is the class of verbs that the access lists of the configuration speak of."""

    access: ClassVar[Literal["enqueue", "consume", "status", "admin"]] = "admin"

    v: Literal[1]
    id: RequestId


class Enqueue(Request, frozen=True, gc=False, tag="enqueue"):
    """Insert a group of jobs, all or none. `within_ms`: the client stops waiting then; better refuse than be late."""

    access = "enqueue"
    queue: Name
    key: Key
    jobs: Annotated[tuple[NewJob, ...], Meta(min_length=1, max_length=GROUP_JOBS_MAX)]
    within_ms: Patience | None = None


class FlowStart(Request, frozen=True, tag="flow_start"):
    """Insert a flow, all or nothing; or, with `into`, more steps of one. An `open` one ends after `flow_close` only."""

    access = "enqueue"
    key: Key
    steps: Annotated[tuple[Step, ...], Meta(max_length=GROUP_JOBS_MAX)]
    name: Text | None = None
    context: msgspec.Raw = msgspec.Raw(b"null")
    into: Id | None = None
    open: bool = False
    on_success: CallbackJob | None = None
    on_complete: CallbackJob | None = None
    on_death: CallbackJob | None = None
    within_ms: Patience | None = None


class FlowShow(Request, frozen=True, gc=False, tag="flow"):
    """All about one flow, with its first steps by id, also of the flows in it; `more` says if there are others."""

    access = "status"
    flow: Id


class FlowList(Request, frozen=True, gc=False, tag="flow_list"):
    """Flows, the newest first, a page at a time."""

    access = "status"
    before: Id | None = None
    state: FlowState | None = None


class Hello(Request, frozen=True, gc=False, tag="hello"):
    """Who are you?"""

    access = "status"


class JobStatus(Request, frozen=True, gc=False, tag="job"):
    """All about one job."""

    access = "status"
    job: Id


class Status(Request, frozen=True, gc=False, tag="status"):
    """The daemon and the counts of every queue."""

    access = "status"


class Wait(Request, frozen=True, gc=False, tag="wait"):
    """Answer when the job has reached a final state, or with `wait_timeout` after `timeout_ms`."""

    access = "status"
    job: Id
    timeout_ms: Patience


class Explain(Request, frozen=True, gc=False, tag="explain"):
    """Why is a job not running?"""

    access = "status"
    job: Id


class Workers(Request, frozen=True, gc=False, tag="workers"):
    """Every worker."""

    access = "status"


class Tree(Request, frozen=True, gc=False, tag="tree"):
    """Every process of the daemon."""

    access = "status"


class Writing(Request, frozen=True, gc=False, kw_only=True):
    """Base of operations on jobs that exist. `within_ms`: as for enqueue; what was done by then stays done."""

    within_ms: Patience | None = None


class Cancel(Writing, frozen=True, gc=False, tag="cancel"):
    """Cancel jobs that have not finished."""

    ids: Ids


class Retry(Writing, frozen=True, gc=False, tag="retry"):
    """Run final jobs again under their ids; completed ones only with `force`."""

    ids: Ids
    force: bool = False


class Pause(Writing, frozen=True, gc=False, tag="pause"):
    """Hand out no more jobs of a queue."""

    queue: Name


class FreeKey(Writing, frozen=True, gc=False, tag="key"):
    """Pause or resume a key of a queue, or let it go on whatever holds it; an empty key means jobs without one."""

    queue: Name
    job_key: Annotated[str, Meta(max_length=JOB_KEY_LENGTH_MAX)]
    action: Literal["pause", "resume", "free"]


class Resume(Writing, frozen=True, gc=False, tag="resume"):
    """Undo `pause`, and close the circuit of a pool that had given up."""

    queue: Name


class Move(Writing, frozen=True, gc=False, tag="move"):
    """Move the jobs of one queue to another."""

    old: Name
    new: Name


class Purge(Writing, frozen=True, gc=False, tag="purge"):
    """Delete the jobs of a queue that are in a state."""

    queue: Name
    state: State


class DeadRetry(Writing, frozen=True, gc=False, tag="dead_retry"):
    """Run dead letters again: at once, or as a replay, if any member but `filter` and `limit` is given."""

    filter: Filter
    limit: Jobs | None = None
    pace_jobs: PaceJobs | None = None
    pace_ms: Limit | None = None
    canary: Jobs | None = None
    stop_on_failure: bool = False


class DeadDelete(Writing, frozen=True, gc=False, tag="dead_delete"):
    """Delete dead letters."""

    filter: Filter


class Fetch(Request, frozen=True, gc=False, tag="fetch"):
    """Lease ready jobs of a queue to a consumer, as soon as there are any; none after `wait_ms`.

    Asked again under the same `key` while the lease is open, it gives the same jobs.
    """

    access = "consume"
    queue: Name
    jobs_max: Annotated[int, Meta(ge=1, le=FETCH_JOBS_MAX)] = 1
    lease_ms: LeaseTime | None = None
    wait_ms: Patience = 0
    consumer: Consumer | None = None
    key: Key | None = None


class Extend(Writing, frozen=True, gc=False, tag="extend"):
    """Hold a lease for so long from now; the answer says which of its jobs were cancelled meanwhile."""

    access = "consume"
    token: Id
    lease_ms: LeaseTime | None = None


class Ack(Writing, frozen=True, gc=False, tag="ack"):
    """A leased job is done. What is in `enqueue` comes into being with that, or nothing of it happens."""

    access = "consume"
    job: Id
    token: Id
    result: msgspec.Raw = msgspec.Raw(b"null")
    enqueue: Annotated[tuple[ChildJob, ...], Meta(max_length=GROUP_JOBS_MAX)] = ()


class Fail(Writing, frozen=True, gc=False, tag="fail"):
    """A leased job has failed: again later as its queue says or after `retry_in_ms`, or dead."""

    access = "consume"
    job: Id
    token: Id
    message: Message
    type: Text | None = None
    traceback: Message | None = None
    retry_in_ms: Delay | None = None
    final: bool = False


class Release(Writing, frozen=True, gc=False, tag="release"):
    """Jobs of a lease are handed back, nothing is charged: to the places that they had, or for `delay_ms` later."""

    access = "consume"
    token: Id
    ids: Ids | None = None
    delay_ms: Delay | None = None


class Consumers(Request, frozen=True, gc=False, tag="consumers"):
    """Who holds jobs of queues with `pull`, and who waits for some."""

    access = "status"


class Scale(Request, frozen=True, gc=False, tag="scale"):
    """Have a pool of so many workers, whatever its load; null: let the load decide again."""

    queue: Name
    workers: Annotated[int, Meta(ge=1, le=WORKERS_MAX)] | None


class DeadStop(Writing, frozen=True, gc=False, tag="dead_stop"):
    """End a replay of dead letters."""

    replay: Id


class Edit(Writing, frozen=True, gc=False, tag="edit"):
    """Change a job that does not run; what is not given stays as it is."""

    job: Id
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    queue: Name | None = None
    priority: Priority | None = None
    delay_ms: Delay | None = None
    due_at_ms: Instant | None = None
    timeout_ms: Limit | None = None
    max_attempts: Attempts | None = None
    tags: Tags = ()
    untag: Tags = ()
    task: TaskName | None = None
    version: Version | None = None


class Delete(Writing, frozen=True, gc=False, tag="delete"):
    """Delete jobs; every member given must hold, and one that names jobs must be given."""

    queue: Name | None = None
    ids: Ids | None = None
    state: State | None = None
    tag: Tag | None = None
    before_ms: Instant | None = None
    after_ms: Instant | None = None
    by: Literal["enqueued", "finished"] = "enqueued"
    text: Text | None = None
    type: Text | None = None
    key: AskedKey | None = None
    task: TaskName | None = None


class FlowSignal(Writing, frozen=True, gc=False, tag="flow_signal"):
    """A signal for the steps of a flow that wait for it; it may come before them."""

    access = "enqueue"
    flow: Id
    signal: StepName
    payload: msgspec.Raw = msgspec.Raw(b"null")


class FlowClose(Writing, frozen=True, gc=False, tag="flow_close"):
    """No more steps are added to an open flow: it ends once they have."""

    access = "enqueue"
    flow: Id


class FlowCancel(Writing, frozen=True, gc=False, tag="flow_cancel"):
    """Cancel all of a flow that has not ended."""

    flow: Id


class FlowRetry(Writing, frozen=True, gc=False, tag="flow_retry"):
    """Run dead and cancelled steps of a flow again; or a step, and all that comes after it."""

    flow: Id
    step: StepName | None = None


class CronList(Request, frozen=True, gc=False, tag="cron_list"):
    """Schedules in the order of their names, a page at a time."""

    access = "status"
    after: Name | None = None


class CronShow(Request, frozen=True, gc=False, tag="cron_show"):
    """All about one schedule."""

    access = "status"
    name: Name


class CronAdd(Writing, frozen=True, gc=False, tag="cron_add"):
    """Add a schedule, or change one that was added; `schedule` has the keys that its table would have in TOML."""

    name: Name
    schedule: dict[str, Any]


class CronRemove(Writing, frozen=True, gc=False, tag="cron_remove"):
    """Remove a schedule that was added."""

    name: Name


class CronPause(Writing, frozen=True, gc=False, tag="cron_pause"):
    """Let a schedule rest: nothing of it is due."""

    name: Name


class CronResume(Writing, frozen=True, gc=False, tag="cron_resume"):
    """Undo `cron_pause`; what was due meanwhile is not made up for."""

    name: Name


class CronRun(Writing, frozen=True, gc=False, tag="cron_run"):
    """Enqueue a schedule's job now; its timetable stays as it is."""

    name: Name


class Reload(Request, frozen=True, gc=False, tag="reload"):
    """Read the configuration again."""


class AlertsTest(Request, frozen=True, gc=False, tag="alerts_test"):
    """Send an alert that says that it is a test, and answer how that went."""


AnyRequest = (
    Enqueue | Hello | JobStatus | Explain | Status | Wait | Workers | Tree | Cancel | Retry | Pause | FreeKey | Resume
    | Move | Purge | DeadRetry | DeadDelete | DeadStop | Edit | Delete | Reload | Scale | AlertsTest
    | FlowStart | FlowShow | FlowList | FlowSignal | FlowClose | FlowCancel | FlowRetry
    | Fetch | Extend | Ack | Fail | Release | Consumers
    | CronList | CronShow | CronAdd | CronRemove | CronPause | CronResume | CronRun
)  # fmt: skip

_decode: Callable[[bytes], AnyRequest] = msgspec.json.Decoder(AnyRequest).decode
_encode = msgspec.json.Encoder().encode

request_id = refusal.request_id


def decode(frame: bytes) -> AnyRequest:
    """The request that a frame holds.

    Raises:
        ProtocolError: not JSON, not an object, another version, no `id`, or an `op` that does not exist.
        PayloadTooLarge: more than `GROUP_JOBS_MAX` jobs in a group.
        InvalidPayload: a payload, or an option of a job, is not what it may be; the member is named.
        UsageError: any other member is missing, unknown or not what it may be; it is named.
    """
    try:
        request = _decode(frame)
    except refusal.UNREADABLE as error:
        raise refusal.of_frame(frame, error) from None
    if type(request) is Enqueue:
        for number, job in enumerate(request.jobs):
            if (
                job.tags or job.key is not None or job.due_at_ms is not None or job.expires_at_ms is not None
                or job.deadline_at_ms is not None
            ):  # fmt: skip
                _check_options(number, job)
    elif type(request) in CHECKS:
        CHECKS[type(request)](request)
    return request


def _check_fetch(request: Fetch) -> None:
    """Refuse a name that would not print."""
    if request.consumer is not None and not request.consumer.isprintable():
        raise UsageError(f"consumer must be {refusal.RULES['consumer']}")


def _check_ack(request: Ack) -> None:
    for number, job in enumerate(request.enqueue):
        _check_options(number, job, of="enqueue")


def _check_flow(request: FlowStart) -> None:
    """Refuse options of steps that are wrong together, and more steps than a group may have."""
    waiting: list[tuple[Step, int]] = [(step, 1) for step in request.steps]
    number = 0
    while waiting:
        step, depth = waiting.pop()
        if depth > FLOW_DEPTH_MAX:
            raise InvalidFlow(f"flows are nested more than {FLOW_DEPTH_MAX} deep")
        _check_options(number, step)
        number += 1
        if number > GROUP_JOBS_MAX:
            raise PayloadTooLarge(
                f"a flow has more than {GROUP_JOBS_MAX:,} steps", hint="start it open, and add steps in groups"
            )
        waiting += [(inner, depth + 1) for inner in step.steps or ()]


def _check_dead(request: DeadRetry | DeadDelete) -> None:
    _check_filter(request.filter)
    if type(request) is DeadRetry and (request.pace_jobs is None) != (request.pace_ms is None):
        raise UsageError("pace_jobs and pace_ms go together")


def _check_edit(request: Edit) -> None:
    """Refuse an edit that changes nothing, and options that would be refused for a new job."""
    if request.due_at_ms is not None and request.delay_ms is not None:
        raise InvalidPayload("delay_ms and due_at_ms exclude each other")
    if not all(tag.isprintable() for tag in request.tags):
        raise InvalidPayload(f"tags must be {refusal.RULES['tags']}")
    given = (
        request.queue, request.priority, request.delay_ms, request.due_at_ms, request.timeout_ms, request.max_attempts,
        request.task, request.version, request.tags or None, request.untag or None,
    )  # fmt: skip
    if request.payload is msgspec.UNSET and all(value is None for value in given):
        raise UsageError(
            "name something to change: payload, queue, priority, time, timeout_ms, max_attempts, task, version or tags"
        )


def _check_delete(request: Delete) -> None:
    """Refuse a deletion that names no jobs: it would mean all there are; and a key that no job can have."""
    members = ("queue", "ids", "state", "tag", "before_ms", "after_ms", "text", "type", "key", "task")
    if all(getattr(request, name) is None for name in members):
        raise UsageError("name at least one of queue, ids, state, tag, before_ms, after_ms, text, type, key and task")
    _check_key("key", request.key)


def _check_options(number: int, job: NewJob, *, of: str = "jobs") -> None:
    """Refuse options that are right one by one and wrong together, and tags that would not print."""
    if job.due_at_ms is not None and job.delay_ms is not None:
        raise InvalidPayload(f"{of}[{number}]: delay_ms and due_at_ms exclude each other")
    if job.expires_at_ms is not None and job.ttl_ms is not None:
        raise InvalidPayload(f"{of}[{number}]: ttl_ms and expires_at_ms exclude each other")
    if job.deadline_at_ms is not None and job.deadline_ms is not None:
        raise InvalidPayload(f"{of}[{number}]: deadline_ms and deadline_at_ms exclude each other")
    if len(set(job.tags)) < len(job.tags):
        raise InvalidPayload(f"{of}[{number}].tags: tags must differ from each other")
    if job.key is not None and not job.key.isprintable():
        raise InvalidPayload(f"{of}[{number}].key: must be {refusal.JOB_KEY_RULE}")
    if not all(tag.isprintable() for tag in job.tags):
        raise InvalidPayload(f"{of}[{number}].tags: tags must be {refusal.RULES['tags']}")


def _check_filter(chosen: Filter) -> None:
    """Refuse a filter that names nothing: it would mean every dead letter there is."""
    if all(getattr(chosen, name) is None for name in chosen.__struct_fields__):
        names = "queue, ids, type, before_ms, after_ms, text, fingerprint and key"
        raise UsageError(f"filter: name at least one of {names}")
    _check_key("filter.key", chosen.key)


def _check_key(member: str, key: str | None) -> None:
    """Refuse a key that no job can have."""
    if key is not None and not key.isprintable():
        raise UsageError(f"{member} must be {refusal.RULES['job_key']}")


CHECKS: Mapping[type, Callable[[Any], None]] = {
    FlowStart: _check_flow,
    Fetch: _check_fetch,
    Ack: _check_ack,
    DeadRetry: _check_dead,
    DeadDelete: _check_dead,
    Edit: _check_edit,
    FreeKey: lambda request: _check_key("job_key", request.job_key),
    Delete: _check_delete,
}
"""What is wrong only in members together, by request."""


def check_payload(raw: bytes, max_bytes: int, queue: str) -> None:
    """Refuse what cannot be stored, or not be read by whoever gets it; see `supervisor.wire.payload` for the rules.

    Raises:
        PayloadTooLarge: above `max_bytes`, the `max_payload` of `queue`.
        InvalidPayload: not JSON, or JSON that some reader could not hold.
    """
    if len(raw) > max_bytes:
        raise PayloadTooLarge(
            f"the payload is {len(raw):,} bytes; queue {queue} takes at most {max_bytes:,} (max_payload)",
            hint="store large data elsewhere and enqueue where it is",
        )
    check_json(raw)


def check_json(raw: bytes, what: str = "the payload") -> None:
    """Refuse what breaks a rule of payloads, though `what` it is may be none.

    Raises:
        InvalidPayload: as `check_payload`.
    """
    try:
        read(raw)
    except refusal.UNREADABLE as error:
        raise payloads.refused(refusal.of_payload(raw, error), what) from None
    payloads.check(raw, what)


def reply(request_id: int, ok: Mapping[str, Any]) -> bytes:
    """The frame body that answers a request."""
    return _encode({"v": PROTOCOL, "id": request_id, "ok": ok})


def failure(request_id: int | None, error: JobsupError) -> bytes:
    """The frame body that refuses a request; without an id, it speaks of the connection, which ends with it."""
    said = {"code": error.code, "message": error.message[:SAID_MAX], "hint": error.hint and error.hint[:SAID_MAX]}
    return _encode({"v": PROTOCOL, "id": request_id, "error": said})
