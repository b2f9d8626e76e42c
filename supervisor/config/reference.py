"""docs/config.md, made of the tables that loading walks: every key with its type, default and meaning. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from supervisor.config.keys import Key, Section, default
from supervisor.config.problem import shown
from supervisor.config.queue_keys import ARRAYS, NAMED, OWN_KEYS, QUEUE, TOP
from supervisor.config.schedule_keys import SCHEDULE

INTRODUCTION = """\
# Configuration

<!-- Made by `python -m supervisor.config.generate`; edit keys.py, queue_keys.py and reference.py there instead. -->

`jobsupd` and `jobsctl` read one TOML file:

1. the file named with `-c FILE`,
2. else the one named by `$JOBSUP_CONFIG`,
3. else `etc/queues.toml` below the working directory,
4. else `/etc/jobsup/queues.toml`.

Then the drop-ins: `queues.d/*.toml` beside that file, in the byte order of their names. A drop-in holds
`[queues.NAME]` and `[schedules.NAME]` tables only. If it names a queue or schedule that was there before, it replaces
that as a whole, with a warning. `jobsctl queues add` writes drop-ins and never touches your own file.

Then `--set section.key=value`, as often as needed: `--set defaults.workers=4`, `--set queues.emails.timeout=90s`,
`--set 'queues."a.b".order=lifo'`. The value is read as TOML if it is TOML, else as text. `[[outbox]]` is set as a
whole: `--set 'outbox=[]'` leaves all of them out.

`jobsupd --check -c FILE` prints every problem as `FILE:LINE: KEY: what is wrong, and what would be right`, and what
this host lacks for it. `jobsctl config show` prints what was understood, with nothing inherited any more.
For editors there is a JSON Schema in `etc/queues.schema.json`; a file whose first line is
`#:schema ./queues.schema.json` is checked and completed while you type.

## Values

- **Paths** are relative to the file that they are written in (those of `--set` to the main file).
- **Durations** are a number and `ms`, `s`, `m`, `h` or `d`, joined with the larger units first: `"5ms"`, `"1h30m"`.
  A bare number is an error, because it does not say what it counts.
- **Sizes** are a number and `B`, `kB`, `KiB`, `MB`, `MiB`, `GB` or `GiB`.
- **Environment values**: `${NAME}` and `${NAME:-default}` in any text, but not in the paths of `[daemon]`: clients,
  whose environment is another one, must find the same socket. A variable that is not set and has no default is an
  error. Text with such a value in it may also stand for a number or a boolean: `workers = "${WORKERS:-4}"`. `$${`
  means the characters `${` themselves.
- **Unknown keys** are errors, and so are keys of later versions: nothing that you wrote is ever ignored.

The files are code: they say what the daemon runs. A file that everyone can write, or that stands in a directory which
everyone can write (without the sticky bit), is refused; so is one that its group can write if root reads it, and
otherwise that is a warning. The same holds for the directories of `python_path`.

Limits: 256 KiB a file, 1 MiB in all, 256 drop-ins, 256 queues, 1024 schedules, 2048 workers, keys of 8 parts.

Each of these is refused with a sentence, in bounded time and memory, and changes nothing in a daemon that runs:
a file that is missing; a file that cannot be read; an empty file; a file of comments only; a directory; a FIFO;
a device; 10 MB; bytes that are not UTF-8; a byte order mark; a world-writable file; a file in a world-writable
directory; a link into a world-writable directory; a link to itself; duplicate keys; two queues with one name;
booleans for numbers; inf and nan; huge numbers; a number of 200,000 digits; a key of 20,000 dotted parts;
many keys of 200 parts; 10,000 brackets; 10,000 tables in each other; unknown keys; thousands of unknown keys;
keys of later versions; more than 256 queues; a queue name with escapes; a socket path that is too long.
"""

QUEUES = """\
`[queues.NAME]` has these keys, and either `handler` or `command`, unless a pool draws from it. `[queues."NAME*"]` is
for all queues whose names begin so and have no table of their own; no two such patterns may overlap. All other keys are
inherited from `[defaults]`, where the same keys stand: a table such as `backoff` or `env` is inherited key by key,
everything else as a whole.
"""


def markdown() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## A file has these keys\n"]
    for name, section in TOP.items():
        if name != "defaults":
            parts.append(f"### `[{name}]`\n\n{section.meaning}\n\n{_rows(section)}")
    parts.append(f"### `[queues.NAME]` and `[defaults]`\n\n{QUEUE.meaning}\n\n{QUEUES}\n{_rows(QUEUE)}")
    parts += [f"### `[{name}.NAME]`\n\n{section.meaning}\n\n{_rows(section)}" for name, section in NAMED.items()]
    parts.append(f"### `[schedules.NAME]`\n\n{SCHEDULE.meaning}\n\n{_rows(SCHEDULE)}")
    parts += [f"### `[[{name}]]`\n\n{section.meaning}\n\n{_rows(section)}" for name, section in ARRAYS.items()]
    return "\n".join(parts)


def _rows(section: Section) -> str:
    head = "| key | value | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in _keys(section, ""))


def _keys(section: Section, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    for name, key in section.keys.items():
        if isinstance(key.kind, Section):
            says = f"a table, or {key.kind.short.says}" if key.kind.short else "a table"
            yield f"`{prefix}{name}`", says, key.default or "as below", key.meaning
            yield from _keys(key.kind, f"{prefix}{name}.")
        else:
            yield f"`{prefix}{name}`", key.kind.says, _default(section, key, name), key.meaning


def _default(section: Section, key: Key, name: str) -> str:
    if key.default is not None:
        return key.default
    if name in OWN_KEYS:
        return "-"
    value = default(section, key)
    assert value is not msgspec.NODEFAULT
    assert not isinstance(key.kind, Section)
    return f"`{toml(key.kind.show(value))}`"


def toml(value: Any) -> str:
    """A value as TOML writes it in one line."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(each)}" for name, each in value.items()) + "}"
    return shown(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
