"""The keys of `[alerts]`, as data, and the kinds of values that only they have; see `keys` for what walks them."""

from __future__ import annotations

import re
from typing import Any

from supervisor.config.command import Field, parse_command
from supervisor.config.keys import Key, Section
from supervisor.config.kinds import Kind, choice, duration, integer, listed, or_word, show_size, size, text, utf8, wrong
from supervisor.config.problem import dotted, shown, suggestion
from supervisor.config.spec import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Alerts
from supervisor.config.special import COMMAND, ENVIRONMENT
from supervisor.policy.alerts import FIELDS, KINDS, WHOLE

DISK_BYTES_MAX = 2**50
PAYLOAD_MEMBERS_MAX = 256
_PER_CENT = re.compile(r"([0-9]{1,2})%")
_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")


def _read_command(value: Any, folder: str) -> tuple[str, ...]:
    command: tuple[str, ...] = COMMAND.read(value, folder)
    for argument in parse_command(command):
        if isinstance(argument, Field) and argument.member not in FIELDS:
            raise ValueError(f"{{{argument.member}}} is no field of an alert; {suggestion(argument.member, FIELDS)}")
    return command


ALERT_COMMAND = COMMAND._replace(says='an array of arguments, the program first; "{summary}" is filled by the alert',
                                 read=_read_command)  # fmt: skip

_BYTES = size(1, DISK_BYTES_MAX)
_DISK_SAYS = 'a size such as "1GiB", or a part such as "5%"'


def _read_disk(value: Any, folder: str) -> tuple[int, int]:
    """Bytes and per cent, of which one is 0."""
    part = _PER_CENT.fullmatch(value) if isinstance(value, str) else None
    if part:
        if not int(part[1]):
            raise wrong(value, _DISK_SAYS, "would never be too little")
        return 0, int(part[1])
    if isinstance(value, str) and value.endswith("%"):
        raise wrong(value, 'a part from "1%" to "99%"', "is out of range")
    try:
        return _BYTES.read(value, folder), 0
    except ValueError as error:
        raise ValueError(str(error).replace(_BYTES.says, _DISK_SAYS)) from None


def _show_disk(value: tuple[int, int]) -> str:
    size_bytes, per_cent = value
    return f"{per_cent}%" if per_cent else show_size(size_bytes)


DISK_MIN = Kind(
    _DISK_SAYS,
    _read_disk,
    {"type": "string", "pattern": r"^([0-9]+(B|kB|KiB|MB|MiB|GB|GiB)|[1-9][0-9]?%)$|\$\{"},
    _show_disk,
)
OLDEST_MAX = or_word("never", 0, duration(SECOND_MS, 365 * DAY_MS))


def _read_payload(value: Any, _folder: str) -> dict[str, Any]:
    says = 'a table, such as { channel = "ops", text = "{summary}" }'
    if not isinstance(value, dict):
        raise wrong(value, says)
    problems: list[str] = []
    plain: dict[str, Any] = _plain(value, (), problems)
    if problems:
        raise ValueError("; ".join(problems[:10]))
    return plain


def _plain(value: Any, key: tuple[str, ...], problems: list[str]) -> Any:
    """The same as JSON can hold it; what is wrong is noted under the name of its member."""
    if isinstance(value, dict | list) and len(value) > PAYLOAD_MEMBERS_MAX:
        problems.append(f"{dotted(key)}: has {len(value)} members; write at most {PAYLOAD_MEMBERS_MAX}")
        return None
    if isinstance(value, dict):
        return {name: _plain(each, (*key, name), problems) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, (*key, str(number)), problems) for number, each in enumerate(value, 1)]
    try:
        return _scalar(value)
    except ValueError as error:
        problems.append(f"{dotted(key)}: {error}")
        return None


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        field = _FIELD.fullmatch(utf8(value, "text"))
        if field and field[1] not in (*FIELDS, WHOLE):
            raise ValueError(f"{shown(value)} is no field of an alert; {suggestion(field[1], (*FIELDS, WHOLE))}")
        return str(value)
    if isinstance(value, bool | int) or (isinstance(value, float) and abs(value) < float("inf")):
        return value
    raise wrong(value, "text, a number, true or false", "cannot stand in JSON")


PAYLOAD = Kind(
    'a table; a text that is "{summary}" or another field of the alert is filled, "{alert}" is all of it',
    _read_payload,
    {"type": "object", "maxProperties": PAYLOAD_MEMBERS_MAX},
)

ALERTS = Section(
    Alerts,
    "Who is told when something goes wrong: a command, a webhook queue, or both; see alerts.md.",
    {
        "command": Key(
            "command", ALERT_COMMAND, "program and arguments, never a shell; it gets the alert as JSON on stdin", "-"
        ),
        "timeout": Key("timeout_ms", duration(SECOND_MS, 10 * MINUTE_MS), "how long the command may take"),
        "env": Key("env", ENVIRONMENT, "variables that the command gets, beside PATH, HOME, LANG and LC_*"),
        "queue": Key("queue", text("the name of a queue"), "the queue that takes each alert as a job", "-"),
        "url": Key(
            "url",
            text("an address that begins with http:// or https://", r"https?://\S+"),
            "for a queue of webhooks: where alerts are sent; the payload is then `url`, and the alert as `body`",
            "-",
        ),
        "payload": Key("payload", PAYLOAD, "payload of the job; with `url`, members beside that and `body`", "-"),
        "on": Key("on", listed(choice(*KINDS)), "what is told of"),
        "group": Key(
            "group_ms",
            duration(SECOND_MS, HOUR_MS),
            "after a message of one kind and queue, for how long the next ones are gathered into one",
        ),
        "limit": Key(
            "limit", integer(1, 1000), "messages in a minute; what is beyond is counted, and told in the next"
        ),
        "disk_min": Key("disk_min", DISK_MIN, "free space of the database's file system below which an alert is sent"),
        "oldest_max": Key(
            "oldest_max_ms", OLDEST_MAX, "age of the oldest queued job above which an alert is sent; queues may differ"
        ),
    },
)
