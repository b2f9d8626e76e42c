"""The kinds of values that only one key has: commands, environments, handlers, log targets, users. Pure."""

from __future__ import annotations

import keyword
import os
import re
from typing import Any

from supervisor.config.command import parse_argument, parse_command
from supervisor.config.kinds import LIST_MAX, REFERENCE, Kind, path, text, utf8, wrong
from supervisor.config.problem import dotted, shown, suggestion
from supervisor.config.spec import QUEUE_NAME_SHAPE, SCOPE_NAME_SHAPE

ARGUMENT_MAX_BYTES = 128 * 1024 - 1
"""One argument, or one variable, that the kernel takes: MAX_ARG_STRLEN without its NUL."""

VARIABLE_NAME = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
RESERVED_VARIABLES = frozenset(
    {"JOBSUP_WORKER"}
    | {f"JOBSUP_{name}" for name in ("JOB_ID", "QUEUE", "ATTEMPT", "MAX_ATTEMPTS", "TOKEN", "DEADLINE")}
)
LOG_TARGETS = ("auto", "stderr", "journald")


def _passes_exec(value: Any, says: str) -> str:
    """Text that the kernel takes as an argument or a variable."""
    if not isinstance(value, str):
        raise wrong(value, says)
    if "\0" in value:
        raise wrong(value, says, "holds a NUL")
    if len(utf8(value, says).encode()) > ARGUMENT_MAX_BYTES:
        raise wrong(value, says, "is longer than the kernel takes, 128 KiB")
    return str(value)


def _read_command(value: Any, folder: str) -> tuple[str, ...]:
    says = 'an array of arguments, such as ["sha256sum", "--", "{path}"]'
    if not isinstance(value, list):
        raise wrong(value, says, "is text, and no shell splits it" if isinstance(value, str) else "")
    if not 1 <= len(value) <= LIST_MAX:
        raise ValueError(f"has {len(value)} elements; write the program and at most {LIST_MAX - 1} arguments")
    problems = []
    for position, argument in enumerate(value, 1):
        try:
            parse_argument(_passes_exec(argument, "text"))
        except ValueError as error:
            problems.append(f"element {position}: {error}")
    if problems:
        raise ValueError("; ".join(problems[:10]))
    program = str(parse_command(tuple(value))[0][0])
    if "/" in program and not program.startswith("/"):
        value = [os.path.normpath(os.path.join(folder, value[0])), *value[1:]]
    return tuple(str(argument) for argument in value)


COMMAND = Kind(
    'an array of arguments, the program first; "{member}" is filled from the payload',
    _read_command,
    {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": LIST_MAX},
    list,
)


def _read_environment(value: Any, _folder: str) -> dict[str, str]:
    says = 'a table of text, such as { LANG = "C.UTF-8" }'
    if not isinstance(value, dict):
        raise wrong(value, says)
    if len(value) > LIST_MAX:
        raise ValueError(f"has {len(value)} variables; write at most {LIST_MAX}")
    found, problems = {}, []
    for name, content in value.items():
        try:
            _check_variable(name)
            found[name] = _passes_exec(content, "text in quotes")
        except ValueError as error:
            problems.append(f"{dotted((name,))}: {error}")
    if problems:
        raise ValueError("; ".join(problems[:10]))
    return found


def _check_variable(name: str) -> None:
    if not re.fullmatch(VARIABLE_NAME, name):
        raise ValueError("is no name of a variable; write letters, digits and _")
    if name in RESERVED_VARIABLES:
        raise ValueError("is set by jobsup itself; choose another name")


ENVIRONMENT = Kind(
    "a table of environment variables",
    _read_environment,
    {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": LIST_MAX},
)
VARIABLE = text("the name of an environment variable", VARIABLE_NAME)


def _read_reference(value: Any, _folder: str) -> str:
    says = '"module:function", such as "myapp.mail:send"'
    written: str = text(says, high=255).read(value, "")
    module, colon, name = written.partition(":")
    if not colon and all(part.isidentifier() for part in written.split(".")):
        raise ValueError(f"{shown(written)} names no function; write {says}")
    for part in (*module.split("."), *name.split(".")):
        if not part.isidentifier() or keyword.iskeyword(part):
            raise wrong(written, says, "is no module and function")
    return written


def _read_handler(value: Any, folder: str) -> str:
    """A function, or a module of which the functions marked as tasks are meant."""
    if isinstance(value, str) and value and all(_is_name(part) for part in value.split(".")):
        return value
    return _read_reference(value, folder)


def _is_name(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)


HANDLER = Kind(
    '"module:function", or "module" for its tasks',
    _read_handler,
    {"anyOf": [{"type": "string", "pattern": r"^[^\s:]+(:[^\s:]+)?$"}, REFERENCE]},
)
REFERENCE_TO_CODE = Kind(
    '"module:function"',
    _read_reference,
    {"anyOf": [{"type": "string", "pattern": r"^[^\s:]+:[^\s:]+$"}, REFERENCE]},
)


def _read_log_target(value: Any, folder: str) -> str:
    says = '"auto", "stderr", "journald", or a path with a / in it'
    if isinstance(value, str) and value in LOG_TARGETS:
        return str(value)
    if isinstance(value, str) and "/" not in value:
        raise ValueError(f"{shown(value)} is no target, and a path has a / in it; {suggestion(value, LOG_TARGETS)}")
    return str(path(says).read(value, folder))


LOG_TARGET = Kind('"auto", "stderr", "journald", or a path', _read_log_target, {"type": "string", "minLength": 1})


def _read_database(value: Any, folder: str) -> str:
    says = "the path of a file"
    if isinstance(value, str) and re.match(r"postgres(ql)?://", value):
        raise ValueError(f"PostgreSQL belongs to a later version; write {says}")
    if isinstance(value, str) and (value.endswith("/") or value.startswith(("file:", ":memory:"))):
        raise wrong(value, says, "names no file")
    return str(path(says).read(value, folder))


DATABASE = Kind("the path of a file", _read_database, {"type": "string", "minLength": 1})

_PRELOAD: dict[str | bool, str] = {"auto": "auto", True: "always", False: "never"}


def _read_preload(value: Any, _folder: str) -> str:
    if not isinstance(value, (str, bool)) or value not in _PRELOAD:
        raise wrong(value, '"auto", true or false', "is not known here" if isinstance(value, str) else "")
    return _PRELOAD[value]


def _show_preload(value: str) -> str | bool:
    return next(written for written, kept in _PRELOAD.items() if kept == value)


PRELOAD = Kind('"auto", true or false', _read_preload, {"enum": ["auto", True, False]}, _show_preload)
USER = text("the name of a user", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?")
ACCESS = text('"user:NAME", "group:NAME" or "*"', r"\*|(?:user|group):[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}\$?")
_ORDERS = ("fifo", "lifo", "priority", "fair")


def _read_order(value: Any, _folder: str) -> tuple[str, ...]:
    says = '"fifo", "lifo", "priority", "fair", or an array of them such as ["priority", "fair"]'
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(term, str) for term in listed):
        raise wrong(value, says)
    for term in listed:
        if term not in _ORDERS:
            raise ValueError(f"{shown(term)} is not known here; {suggestion(term, _ORDERS)}")
    if len(set(listed)) < len(listed):
        raise ValueError(f"{shown(value)} names an order twice; write {says}")
    if set(listed) >= {"fifo", "lifo"} or (listed[0] in ("fifo", "lifo") and len(listed) > 1):
        raise ValueError("fifo and lifo settle everything; write one of them at most, and as the last of an array")
    return tuple(str(term) for term in listed)


ORDER = Kind(
    '"fifo", "lifo", "priority", "fair", or an array of them',
    _read_order,
    {"anyOf": [{"enum": list(_ORDERS)}, {"type": "array", "items": {"enum": list(_ORDERS)}, "minItems": 1}, REFERENCE]},
    lambda value: value[0] if len(value) == 1 else list(value),
)


def _read_weights(value: Any, _folder: str) -> dict[str, int]:
    says = "a table of whole numbers from 1 to 1000, such as { acme = 3 }"
    if not isinstance(value, dict):
        raise wrong(value, says)
    for name, weight in value.items():
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 1000:
            raise ValueError(f"{dotted((name,))}: {shown(weight)} is no weight; write {says}")
    if len(value) > WEIGHTS_MAX:
        raise ValueError(f"has {len(value)} members; write at most {WEIGHTS_MAX}")
    return dict(value)


WEIGHTS_MAX = 1_000
WEIGHTS = Kind(
    "a table of whole numbers from 1 to 1000",
    _read_weights,
    {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 1000}},
)


def _read_sources(value: Any, folder: str) -> dict[str, int]:
    """Weights, or an array: then the order itself counts, which `strict` says in the spec."""
    if isinstance(value, list):
        names = dict.fromkeys(name for name in value if isinstance(name, str))
        if not value or len(names) < len(value):
            raise ValueError("write each queue once, the one that comes first of all first")
        return dict.fromkeys(names, STRICTLY)
    if isinstance(value, dict) and value:
        return _read_weights(value, folder)
    raise wrong(
        value, 'a table of weights such as { critical = 6, default = 3 }, or an array such as ["critical", "default"]'
    )


STRICTLY = 0
"""The weight of sources of which the first that has anything comes first."""
SOURCES = Kind(
    "a table of weights, or an array in which the first comes first",
    _read_sources,
    {"anyOf": [{"type": "array", "items": {"type": "string"}}, WEIGHTS.schema]},
    lambda value: list(value) if 0 in value.values() else value,
)
STATES = ("blocked", "scheduled", "queued", "running", "completed", "dead", "cancelled")
QUEUE_NAME = text(
    "a name of lower-case letters, digits, _ . and -, beginning with a letter or digit, of at most 63 characters",
    QUEUE_NAME_SHAPE.pattern,
)
SCOPE_NAME = text(
    "a name of lower-case letters, digits, _ . and -, beginning with a letter or digit, of at most 32 characters",
    SCOPE_NAME_SHAPE.pattern,
)
PATTERN = text("a name of a queue, or its beginning and a * for all that begin so", r"(?:[a-z0-9][a-z0-9_.-]{0,61})?\*")
MEMBER = text("the name of a payload member, or a path such as user.id", r"[^.]+(?:\.[^.]+)*", high=128)
