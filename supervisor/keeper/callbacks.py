"""Callbacks: the job that a queue's `on_failure` or `on_dead` puts into another queue, in the same transaction.

*No loops*: a callback's own failures and death call nothing, and no queue calls itself. A callback that cannot be
stored is shortened, then dropped with a line in the log: it never holds up what it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.config.names import short_name
from supervisor.errors import JobsupError
from supervisor.keeper.children import known_queue, new_job
from supervisor.keeper.work import Work
from supervisor.policy.redact import redact
from supervisor.policy.settle import History
from supervisor.reading import read
from supervisor.store.protocol import AttemptError, Facts, Group
from supervisor.wire import messages

MARK = "callback"
DEAD_KEY = "dead_key"
MESSAGE_MAX = 2_000
MESSAGE_SHORT = 200


def failed(work: Work, facts: Facts, history: History, error: AttemptError | None, reason: str) -> None:
    """A failure or a crash of the job was charged."""
    _call(work, work.state.queue(facts.queue).on_failure, facts, history, error, reason)


def dead(work: Work, facts: Facts, history: History, error: AttemptError | None, reason: str) -> None:
    """The job is dead."""
    _call(work, work.state.queue(facts.queue).on_dead, facts, history, error, reason)


def dead_unrun(work: Work, ids: Sequence[int], reason: str) -> None:
    """Jobs are dead that never ran, for a reason that the store has found."""
    for facts in work.tx.facts(ids).values():
        work.buried(facts, None, reason)
        dead(work, facts, facts.history, None, reason)


def _call(
    work: Work, target: str | None, facts: Facts, history: History, error: AttemptError | None, reason: str
) -> None:
    if target is None or target == facts.queue or _is_callback(facts):
        return
    try:
        queue = known_queue(work.state.spec, target)
        told = _told(work, facts, history, error, reason)
        payload = msgspec.json.encode(told)
        if len(payload) > queue.max_payload_bytes:
            payload = msgspec.json.encode(_shortened(told))
        job = new_job(queue, messages.NewJob(msgspec.Raw(payload)), work.now_ms, target, {MARK: True})
        (inserted,) = work.tx.insert([Group(target, [job])])
        if inserted.refused is not None:
            raise inserted.refused
        work.inserted([inserted])
    except JobsupError as refused:
        said = refused.message
        work.afterwards(lambda: work.state.log.emit("callback.dropped", id=facts.id, queue=target, error=said))


def _is_callback(facts: Facts) -> bool:
    return bool(facts.options) and MARK in msgspec.json.decode(facts.options or b"{}")


def _told(work: Work, facts: Facts, history: History, error: AttemptError | None, reason: str) -> dict[str, Any]:
    """What a callback's handler hears. What its queue hides of the payload stays hidden in the copy."""
    options = msgspec.json.decode(facts.options) if facts.options else {}
    detail = msgspec.json.decode(error.detail) if error and error.detail else {}
    return {
        "job": {
            "id": facts.id,
            "queue": short_name(facts.queue),
            "payload": _copied(work.tx.payload(facts.id), work.state.queue(facts.queue).redact),
            "attempt": history.failures + history.crashes,
            "failures": history.failures,
            "crashes": history.crashes,
            "tags": options.get("tags", []),
        },
        "error": {"kind": error.kind, "type": detail.get("type"), "message": error.message[:MESSAGE_MAX]}
        if error
        else None,
        "reason": reason,
    }


def _copied(payload: bytes, hidden: Sequence[str]) -> Any:
    """A payload as it stands in the copy; it is read only where something of it is to be hidden."""
    return redact(read(payload), hidden) if hidden else msgspec.Raw(payload)


def _shortened(told: dict[str, Any]) -> dict[str, Any]:
    """Without the job's payload, and with the beginning of the message only."""
    error = told["error"] and {**told["error"], "message": told["error"]["message"][:MESSAGE_SHORT]}
    return {**told, "job": {**told["job"], "payload": None, "payload_omitted": True}, "error": error}
