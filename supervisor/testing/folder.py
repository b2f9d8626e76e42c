"""Where what is written in tests lies: beside nothing of the user's, on a path that is short enough for a socket."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from supervisor.config.resolved import as_toml_data
from supervisor.config.spec import Spec
from supervisor.errors import UsageError


def placed(folder: Path) -> tuple[str, ...]:
    """What put over a configuration has all that it writes in one folder."""
    return f'daemon.database="{folder}/jobs.db"', f'daemon.run_dir="{folder}"', 'log.target="stderr"'


def only_outboxes_of(spec: Spec, databases: Mapping[str, str | os.PathLike[str]]) -> str:
    """What put over a configuration has only those of its outboxes for which there is another database.

    Raises:
        UsageError: it has no outbox of such a name.
    """
    for name in databases.keys() - spec.outbox.keys():
        there = f"there are {', '.join(spec.outbox)}" if spec.outbox else "there is none"
        raise UsageError(f"the configuration has no outbox {name}", hint=there)
    moved = {
        name: msgspec.structs.replace(spec.outbox[name], database=os.path.abspath(path))
        for name, path in databases.items()
    }
    tables = as_toml_data(msgspec.structs.replace(spec, outbox=moved)).get("outbox", [])
    return f"outbox=[{', '.join(map(_inline, tables))}]"


def _inline(table: Mapping[str, Any]) -> str:
    """A table of texts and arrays of them, in one line of TOML."""
    return "{" + ", ".join(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items()) + "}"
