"""Which of some jobs a search means: one statement, for whoever reads and for the keeper before it deletes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from supervisor.policy.redact import redact
from supervisor.reading import read
from supervisor.store.driver import plain_text
from supervisor.store.history import Search
from supervisor.store.sqlite.statements import SQL


def matching(
    connection: Any, ids: Sequence[int], search: Search, hidden: Callable[[str], Sequence[str]] | None = None
) -> list[int]:
    """Those of these jobs that the search means, in the order given.

    `hidden` gives the redacted members of a queue: what is never shown is not found either.
    """
    if search.empty:
        return list(ids)
    quoted = None if search.text is None else msgspec.json.encode(search.text).decode()[1:-1]
    asked = {
        "ids": msgspec.json.encode(list(ids)).decode(), "since": search.since_ms, "until": search.until_ms,
        "finished": search.finished, "tag": search.tag, "type": search.error_type, "text": search.text,
        "quoted": quoted, "key": search.key, "task": search.task,
    }  # fmt: skip
    found = set()
    for job_id, queue, payload, _, in_error in connection.execute(SQL.matching, asked).fetchall():
        names = hidden(plain_text(queue)) if hidden else ()
        if in_error or not names or _shown_has(payload, names, search.text or "", quoted or ""):
            found.add(job_id)
    return [job_id for job_id in ids if job_id in found]


def _shown_has(payload: str | bytes, names: Sequence[str], text: str, quoted: str) -> bool:
    """Whether a payload has the text once what is redacted is hidden."""
    shown = msgspec.json.encode(redact(read(payload), names)).decode()
    return text in shown or quoted in shown
