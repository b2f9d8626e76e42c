"""One job of a request as JSON text, from what callers of Python say, and what they say of one that failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from supervisor.errors import InvalidPayload
from supervisor.wire import payload as payloads

ERROR_LENGTH_MAX = 16 * 1024
CUT = "\n[...]\n"


def error_text(text: str) -> str:
    """What is kept of the text of an error: the beginning and, more telling in a traceback, the end."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= ERROR_LENGTH_MAX:
        return text
    return text[:2048] + CUT + text[2048 + len(CUT) - ERROR_LENGTH_MAX :]


def members(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a job by keyword (delay, at, priority, ...) as members of the protocol.

    Raises:
        InvalidPayload: an option does not exist or means nothing. Ranges are the keeper's to check.
    """
    if all(value is None for value in options.values()):
        return {}
    from supervisor.policy.options import to_wire

    return to_wire(options)


def job_text(payload: object, given: Mapping[str, Any]) -> str:
    """A job ready to stand in a request; its options are given as members of the protocol.

    Raises:
        InvalidPayload: the payload or an option cannot be written as JSON.
    """
    text = payloads.encode(payload)
    if not given:
        return f'{{"payload":{text}}}'
    try:
        return f'{{"payload":{text},{json.dumps(given, allow_nan=False)[1:]}'
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"an option of the job cannot be written as JSON: {error}") from None


def child_text(child: Mapping[str, Any]) -> str:
    """A job that is enqueued with the completion of another, as JSON text: `queue`, `payload`, `joins`, and options.

    Raises:
        InvalidPayload: as `job_text`; or it names no queue.
    """
    own = {name: value for name, value in child.items() if name not in ("queue", "payload", "joins")}
    if "queue" not in child:
        raise InvalidPayload("a job to be enqueued names no queue")
    return job_text(child.get("payload"), {"queue": child["queue"], "joins": child.get("joins", False), **members(own)})
