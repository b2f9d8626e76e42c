"""Why a request is refused, in a sentence that names the member and says what it may be.

Only errors come through here, so it may look twice; but those who send them are not trusted, so how much it
looks at is bounded.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from supervisor.errors import InvalidPayload, JobsupError, PayloadTooLarge, ProtocolError, UsageError
from supervisor.job import GROUP_JOBS_MAX, JOB_ID_MAX
from supervisor.reading import is_utf8
from supervisor.version import PROTOCOL
from supervisor.wire import payload as payloads

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything that reading with msgspec raises."""

REREAD_BYTES_MAX = 256 * 1024
"""In larger texts half surrogate pairs are not searched for: it would hold up the keeper."""

RULES = {
    "before": "the id of a flow",
    "consumer": "1 to 100 printable characters",
    "context": "JSON",
    "enqueue": f"a list of at most {GROUP_JOBS_MAX} jobs, each with its queue",
    "final": "true or false",
    "jobs_max": "an integer from 1 to 256",
    "joins": "true or false",
    "lease_ms": "whole milliseconds, 1 to 30 days",
    "message": "a text of at most 16384 characters",
    "result": "a JSON value",
    "retry_in_ms": "whole milliseconds, 0 to 36500 days",
    "token": f"the token of a lease, an integer from 1 to {JOB_ID_MAX}",
    "traceback": "a text of at most 16384 characters",
    "wait_ms": "whole milliseconds, 0 to one day",
    "flow": "the id of a flow",
    "into": "the id of a flow",
    "on_complete": "a job: queue, payload and its options",
    "on_death": "a job: queue, payload and its options",
    "on_success": "a job: queue, payload and its options",
    "open": "true or false",
    "signal": "the name of a signal: 1 to 100 letters, digits, ., _ and -",
    "step": "the name of a step",
    "steps": "a list of at most 10000 steps",
    "wait_for": "a list of names of signals",
    "when": "a JMESPath expression of 1 to 1000 characters",
    "action": "pause, resume or free",
    "after": "the name of a schedule",
    "after_ms": "milliseconds since 1970, up to the year 9999",
    "backoff_ms": "a list of 1 to 32 delays, each whole milliseconds, 0 to 36500 days",
    "by": '"enqueued" or "finished"',
    "canary": f"a number of jobs, an integer from 1 to {JOB_ID_MAX}",
    "before_ms": "milliseconds since 1970, up to the year 9999",
    "cost": "an integer from 1 to 1000000",
    "deadline_at_ms": "milliseconds since 1970, up to the year 9999",
    "deadline_ms": "whole milliseconds, 1 to 36500 days",
    "delay_ms": "whole milliseconds, 0 to 36500 days",
    "due_at_ms": "milliseconds since 1970, up to the year 9999",
    "expires_at_ms": "milliseconds since 1970, up to the year 9999",
    "filter": "an object",
    "fingerprint": "16 hexadecimal digits, in small letters",
    "force": "true or false",
    "idempotency_key": "1 to 200 printable characters",
    "ids": f"a list of 1 to 10000 job ids, integers from 1 to {JOB_ID_MAX}",
    "job": f"a job id, an integer from 1 to {JOB_ID_MAX}",
    "job_key": "at most 200 printable characters",
    "jobs": f"a list of 1 to {GROUP_JOBS_MAX} objects",
    "key": "1 to 64 printable ASCII characters without blanks",
    "limit": f"a number of jobs, an integer from 1 to {JOB_ID_MAX}",
    "max_attempts": "an integer from 1 to 1000",
    "name": "the name of a schedule",
    "new": "the name of a queue",
    "old": "the name of a queue",
    "pace_jobs": "an integer from 1 to 1000000",
    "pace_ms": "whole milliseconds, 1 to 36500 days",
    "payload": "a JSON value",
    "priority": "an integer from -100 to 100",
    "replay": f"the number of a replay, an integer from 1 to {JOB_ID_MAX}",
    "queue": "the name of a queue",
    "retry_for_ms": "whole milliseconds, 1 to 36500 days",
    "schedule": "an object with the keys of `[schedules.NAME]`",
    "state": "the name of a state",
    "stop_on_failure": "true or false",
    "tag": "a text of 1 to 64 characters",
    "untag": "a list of at most 32 texts of 1 to 64 characters",
    "tags": "a list of at most 32 texts of 1 to 64 printable characters",
    "task": "the name of a task, 1 to 200 printable ASCII characters without blanks",
    "text": "a text of 1 to 1000 characters",
    "timeout_ms": "whole milliseconds, from 1 to 36500 days for a job, from 0 to one day for wait",
    "ttl_ms": "whole milliseconds, 1 to 36500 days",
    "type": "a text of 1 to 1000 characters",
    "version": "an integer from 1 to 1000000",
    "workers": "an integer from 1 to 256, or null",
    "within_ms": "whole milliseconds, 0 to one day",
}
"""What each member of a request may be; the sentences of errors and of docs/protocol.md."""

OF_STEPS = {
    "after": "a list of names of steps, or an object of names with cancel, ignore or continue",
    "name": "the name of a step: 1 to 100 letters, digits, ., _ and -, the first no . or -",
}
"""What members of steps may be that have another meaning elsewhere."""
OF_JOBS = ("jobs[", "steps[", "enqueue[")
"""Where jobs stand in requests."""
MEMBERS = "docs/protocol.md says what each member may be"
JOB_KEY_RULE = "1 to 200 printable characters"
"""What the `key` of a job may be; a request has a `key`, too."""

_PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
_NAME = re.compile(r"[a-z_]+")
_HEAD = re.compile(rb'\s*\{\s*"v"\s*:\s*1\s*,\s*"id"\s*:\s*([0-9]{1,16})\s*[,}]')
_BYTE = re.compile(r"\(byte (\d+)\)$")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_NAME_SHOWN = 80
_SAID_OF_NAMES = {
    "Object contains unknown field ": "no such member in this version",
    "Object missing required field ": "this member is missing",
}
_SAID_OF_JSON = {"Input data was truncated": "it ends too early"}
_ONLY_PAYLOADS_CAN = frozenset({payloads.TOO_DEEP, payloads.HAS_NAN, payloads.HAS_SURROGATE})
"""What clients send because of a payload, not because they do not speak the protocol."""


class _Envelope(msgspec.Struct, gc=False):
    v: Any = None
    id: Any = None
    op: Any = None


_read_envelope = msgspec.json.Decoder(_Envelope).decode


def request_id(frame: bytes) -> int | None:
    """The id that a reply to this frame must carry, even if the rest of the frame is wrong; None if there is none.

    In a frame that is not JSON it is found only at its head, `{"v":1,"id":12,...`: further on, something that
    looks like it may be part of a payload.
    """
    try:
        found = _read_envelope(frame).id
    except UNREADABLE:
        found = int(match[1]) if (match := _HEAD.match(frame)) else None
    return found if type(found) is int and 0 <= found <= JOB_ID_MAX else None


def of_frame(frame: bytes, error: Exception) -> JobsupError:
    """The error to raise for a frame that could not be read as a request."""
    if isinstance(error, msgspec.ValidationError):
        return _of_envelope(frame) or _of_member(str(error), _read_envelope(frame).op)
    sentence = of_payload(frame, error)
    kind = InvalidPayload if sentence in _ONLY_PAYLOADS_CAN else ProtocolError
    return kind(sentence.replace("the payload", "the request", 1), hint=payloads.HINTS.get(sentence))


def _of_envelope(frame: bytes) -> ProtocolError | None:
    """What is wrong with the frame as a whole, which matters before any member of it."""
    try:
        envelope = _read_envelope(frame)
    except UNREADABLE:
        return ProtocolError("the frame is not a JSON object")
    if type(envelope.v) is not int or envelope.v != PROTOCOL:
        return ProtocolError(f"v must be {PROTOCOL}, the version of the protocol that is spoken here")
    if request_id(frame) is None:
        return ProtocolError(f"id must be an integer from 0 to {JOB_ID_MAX}, chosen by the client")
    if not isinstance(envelope.op, str):
        return ProtocolError("op must be the name of an operation")
    return None


def _of_member(message: str, op: str) -> JobsupError:
    """What is wrong with one member; `message` is msgspec's, which ends with the place, unless that is the frame."""
    place = match[1] if (match := _PLACE.search(message)) else ""
    what = _PLACE.sub("", message).replace("`", "")
    kind, hint = (InvalidPayload, MEMBERS) if place.startswith(OF_JOBS) else (UsageError, None)
    for start, said in _SAID_OF_NAMES.items():
        if what.startswith(start):
            name = what.removeprefix(start)
            return kind(f"{place + '.' if place else ''}{name[:_NAME_SHOWN]}: {said}", hint=hint)
    if place == "op":
        return ProtocolError("op is not the name of an operation of this version")
    if place == "steps" and str(GROUP_JOBS_MAX) in what:
        return PayloadTooLarge(f"a flow starts with at most {GROUP_JOBS_MAX:,} steps; start it open, and add more")
    if place == "jobs" and str(GROUP_JOBS_MAX) in what:
        return PayloadTooLarge(f"a group holds at most {GROUP_JOBS_MAX:,} jobs; split it")
    name = _NAME.findall(place)[-1]
    subject = place if place.endswith(name) else f"{place}: {name}"
    reason = "" if "regex" in what else f" ({what[:1].lower()}{what[1:]})"
    return kind(f"{subject} must be {_rule(name, place, op)}{reason}", hint=hint)


def _rule(name: str, place: str, op: str) -> str:
    """What a member may be: a `key` is the request's own, or what a job belongs to, in a job or in a filter."""
    of_job = place.startswith((*OF_JOBS, "on_"))
    if of_job and name in OF_STEPS:
        return OF_STEPS[name]
    if name != "key" or (place == name and op in ("enqueue", "flow_start", "fetch")):
        return RULES[name]
    return JOB_KEY_RULE if of_job else RULES["job_key"]


def of_payload(raw: bytes, error: Exception) -> str:
    """What is wrong with a payload that could not be read as JSON, in a sentence."""
    if isinstance(error, RecursionError):
        return payloads.TOO_DEEP
    if not is_utf8(raw):
        return payloads.NOT_UTF8
    message = str(error)
    if isinstance(error, msgspec.ValidationError):
        return payloads.TOO_MANY_DIGITS if message.startswith("Integer") else payloads.TOO_LARGE_A_NUMBER
    place = int(match[1]) if (match := _BYTE.search(message)) else len(raw)
    if raw.startswith((b"NaN", b"Infinity"), place):
        return payloads.HAS_NAN
    if len(raw) <= REREAD_BYTES_MAX and _HALF.search(_PAIR.sub(b"", raw)):
        return payloads.HAS_SURROGATE
    return f"the payload is not JSON: {_SAID_OF_JSON.get(message, message.removeprefix('JSON is malformed: '))}"
