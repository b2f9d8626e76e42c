"""A message as programs get it: one JSON object, and the payload of the job that carries it."""

from __future__ import annotations

import socket
from typing import Any

from supervisor.config.spec import Alerts
from supervisor.policy.alerts import WHOLE, Message, summary
from supervisor.store.reader import instant


def alert_of(message: Message) -> dict[str, Any]:
    """The alert as docs/alerts.md describes it."""
    return {
        "summary": summary(message),
        "kind": message.kind,
        "state": message.state,
        "queue": message.queue,
        "count": message.events,
        "ids": list(message.ids),
        "first_at": instant(message.first_at_ms or None),
        "last_at": instant(message.last_at_ms or None),
        "detail": message.detail,
        "more": message.more,
        "more_of": dict(message.left_out),
        "host": socket.gethostname(),
    }


def payload_of(wanted: Alerts, alert: dict[str, Any]) -> Any:
    """The payload of the job: for a webhook its `url` and the alert as `body`, and what `payload` says over that."""
    webhook = {"url": wanted.url, "body": alert} if wanted.url is not None else {}
    return webhook | (filled(wanted.payload or {}, alert))


def filled(template: Any, alert: dict[str, Any]) -> Any:
    """The template, in which each text that is nothing but a field is what the alert says there."""
    if isinstance(template, dict):
        return {name: filled(value, alert) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, alert) for value in template]
    if isinstance(template, str) and template.startswith("{") and template.endswith("}"):
        name = template[1:-1]
        return alert if name == WHOLE else alert.get(name, template)
    return template
