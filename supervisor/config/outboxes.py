"""Outboxes of the configuration: how the array of their tables is read, and whether they go together."""

from __future__ import annotations

import os
import re
from typing import Any

from supervisor.config.build import Scope, construct, read_section
from supervisor.config.outbox_keys import OUTBOX
from supervisor.config.problem import quoted, shown
from supervisor.config.spec import Daemon, Outbox

OUTBOXES_MAX = 16
"""Each has a process of its own."""


def read_outboxes(written: Any, daemon: Daemon, scope: Scope) -> dict[str, Outbox]:
    """The outboxes that a file has, by name; what is wrong with them is noted, and they are left out."""
    if not isinstance(written, list) or not all(isinstance(table, dict) for table in written):
        scope.problem(("outbox",), "is no array of tables; write [[outbox]], in two brackets, for each")
        return {}
    if len(written) > OUTBOXES_MAX:
        scope.problem(("outbox",), f"are {len(written)}; write at most {OUTBOXES_MAX}")
        return {}
    found: dict[str, Outbox] = {}
    for number, table in enumerate(written, 1):
        prefix = ("outbox", str(number))
        before = scope.report.count
        fields = read_section(OUTBOX, table, prefix, scope)
        if "database" not in table:
            scope.problem(prefix, 'has no file; write database = "/srv/app/app.db"')
        if scope.report.count > before:
            continue
        outbox = construct(OUTBOX, {"name": name_of(fields["database"]), **fields})
        if why := _clash(outbox, found, daemon):
            scope.problem((*prefix, why[0]), why[1])
        else:
            found[outbox.name] = outbox
    return found


def name_of(database: str) -> str:
    """The name of an outbox that is given none: that of its file, in the letters that names have."""
    stem = os.path.splitext(os.path.basename(database))[0].lower()
    return re.sub(r"[^a-z0-9_.-]", "_", stem).lstrip("_.-")[:63] or "outbox"


def _clash(outbox: Outbox, others: dict[str, Outbox], daemon: Daemon) -> tuple[str, str] | None:
    """The key and the sentence, where it cannot stand beside the others."""
    if outbox.name in others:
        return "name", f"{shown(outbox.name)} is the name of another outbox; write a name for each"
    place = os.path.realpath(outbox.database)
    if place == os.path.realpath(daemon.database):
        return "database", f"{quoted(outbox.database)} is jobsup's own database; name that of the application"
    same = next((each.name for each in others.values() if os.path.realpath(each.database) == place), None)
    if same is not None:
        return "database", f"{quoted(outbox.database)} is that of outbox {same}; one table has one relay"
    return None
