"""The keys of a queue that say what happens after a failure: backoff, rules for errors, the outage breaker. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

from supervisor.config import special
from supervisor.config.keys import Key, Section
from supervisor.config.kinds import REFERENCE, Kind, choice, duration, integer, listed, number, wrong
from supervisor.config.problem import dotted, printable, shown, suggestion
from supervisor.config.spec import DAY_MS, Backoff, Breaker, ErrorRule
from supervisor.policy.duration import show

YEAR_MS = 365 * DAY_MS
DELAYS_MAX = 32
RULES_MAX = 100
NAME_MAX = 200
WORDS = ("timeout", "crash")
ACTIONS = ("retry", "dead", "cancel")
_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_ENDED = re.compile(r"(exit|signal)\s+(\S+)")
_DELAYS = listed(duration(0, YEAR_MS))


def _read_delays(value: Any, folder: str) -> tuple[int, ...]:
    delays: tuple[int, ...] = _DELAYS.read(value, folder)
    if len(delays) > DELAYS_MAX:
        raise ValueError(f"has {len(delays)} delays; write at most {DELAYS_MAX}, of which the last repeats")
    return delays


DELAYS = Kind(
    'an array of durations, such as ["1s", "10s", "1m"]',
    _read_delays,
    {"type": "array", "items": duration(0, YEAR_MS).schema, "maxItems": DELAYS_MAX},
    _DELAYS.show,
)
FUNCTION = special.REFERENCE_TO_CODE


def _read_short_backoff(value: Any, folder: str) -> dict[str, Any]:
    """A list of delays or a function, in place of the table: it replaces what was inherited of either."""
    if isinstance(value, str):
        if value[:1].isdigit():
            one = printable(value)
            raise ValueError(f'{shown(value)} is no array; write ["{one}"], or {{ base = "{one}" }}')
        return {"function": FUNCTION.read(value, folder), "delays_ms": ()}
    if isinstance(value, list):
        if not value:
            raise ValueError('has no delay; write at least one, such as ["1s", "10s", "1m"]')
        return {"delays_ms": DELAYS.read(value, folder), "function": None}
    raise wrong(value, 'a table, an array of durations, or "module:function"')


BACKOFF = Section(
    Backoff,
    "The delay before a retry: by default base x factor^(failures - 1), at most max, varied by jitter.",
    {
        "base": Key("base_ms", duration(0, 30 * DAY_MS), "delay before the first retry"),
        "factor": Key("factor", number(1, 100), "what each further delay is multiplied by"),
        "max": Key("max_ms", duration(0, YEAR_MS), "the longest delay; not below `base`"),
        "jitter": Key("jitter", number(0, 1), "part of the delay that is left to chance, so that retries spread"),
        "shape": Key(
            "shape",
            choice("exponential", "linear", "constant"),
            "how the delay grows: base x factor^(failures - 1), base x failures, or not at all",
        ),
        "delays": Key("delays_ms", DELAYS, "the delays one by one, the last repeats; then the shape does not matter"),
        "function": Key(
            "function",
            FUNCTION,
            "called with (job, error) in the worker, returns the delay; where it cannot, the other keys decide",
            "none",
        ),
    },
    Kind(
        'an array of durations, or "module:function"',
        _read_short_backoff,
        {"anyOf": [DELAYS.schema, {"type": "string"}]},
    ),
)


def or_false(kind: Kind) -> Kind:
    """A kind that also takes false, for None: so that a queue can do without what [defaults] says."""

    def read(value: Any, folder: str) -> Any:
        return None if value is False else kind.read(value, folder)

    def shown_as(value: Any) -> Any:
        return False if value is None else kind.show(value)

    return Kind(f"{kind.says}, or false", read, {"anyOf": [{"const": False}, kind.schema]}, shown_as)


def read_name(written: str) -> str:
    """The name of a kind of error in the one form in which it is compared.

    Raises:
        ValueError: it names none.
    """
    if len(written) > NAME_MAX:
        raise ValueError(f"is longer than {NAME_MAX} characters")
    if ended := _ENDED.fullmatch(written):
        return _read_exit(ended[2]) if ended[1] == "exit" else f"signal {_read_signal(ended[2])}"
    if not _CLASS.fullmatch(written):
        raise ValueError(
            'names no error; write the class of an exception, such as "requests.exceptions.Timeout", or "exit 65", '
            '"signal 9", "timeout" or "crash"'
        )
    return written.removeprefix("builtins.")


def _read_exit(written: str) -> str:
    if not re.fullmatch(r"[0-9]{1,3}", written) or not 1 <= int(written) <= 255:
        raise ValueError("has no exit status of a failure; write exit 1 to exit 255")
    if int(written) == 75:
        raise ValueError("cannot be a rule: with 75 a command asks to be run later; choose another status")
    return f"exit {int(written)}"


def _read_signal(written: str) -> int:
    if re.fullmatch(r"[0-9]{1,2}", written) and 1 <= int(written) <= 64:
        return int(written)
    name = written if written.startswith("SIG") else f"SIG{written}"
    if name in signal.Signals.__members__:
        return int(signal.Signals[name])
    raise ValueError("has no signal; write signal 9 or signal SIGKILL")


def _read_rules(value: Any, folder: str) -> dict[str, ErrorRule]:
    if not isinstance(value, dict):
        raise wrong(value, 'a table, such as { "ValueError" = "dead", "timeout" = { max_attempts = 2 } }')
    if len(value) > RULES_MAX:
        raise ValueError(f"has {len(value)} rules; write at most {RULES_MAX}")
    found: dict[str, ErrorRule] = {}
    as_written: dict[str, str] = {}
    problems = []
    for written, rule in value.items():
        try:
            name = read_name(written)
            if name in found:
                raise ValueError(f"means the same as {shown(as_written[name])}; keep one of them")  # noqa: TRY301
            found[name], as_written[name] = _read_rule(name, rule, folder), written
        except ValueError as error:
            problems.append(f"{dotted((written,))}: {error}")
    if problems:
        raise ValueError("; ".join(problems[:10]))
    return found


_RULE_SAYS = '"dead", "cancel", "retry", { snooze = "30s" }, or { backoff = [...], max_attempts = 10 }'


def _read_rule(name: str, value: Any, folder: str) -> ErrorRule:
    if isinstance(value, str):
        if value not in ACTIONS:
            raise ValueError(f"{shown(value)} is no action; {suggestion(value, ACTIONS)}")
        return ErrorRule(action=value)  # type: ignore[arg-type]
    if not isinstance(value, dict) or not value:
        raise wrong(value, _RULE_SAYS, "says nothing" if isinstance(value, dict) else "")
    if unknown := [key for key in value if key not in _RULE_KEYS]:
        raise ValueError(f"{shown(unknown[0])} is no key of a rule; {suggestion(unknown[0], _RULE_KEYS)}")
    fields: dict[str, Any] = {}
    for key, written in value.items():
        field, read = _RULE_KEYS[key]
        try:
            fields[field] = read(written, folder)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    if "delay_ms" in fields:
        if len(fields) > 1:
            raise ValueError("snooze goes with nothing else: it is no retry, and charges nothing")
        if name == "crash":
            raise ValueError("a crash cannot be snoozed: a job that ends its worker would do so for ever")
        fields["action"] = "snooze"
    return ErrorRule(**fields)


def _read_rule_backoff(value: Any, folder: str) -> Backoff:
    if not isinstance(value, dict):
        if isinstance(value, str):
            raise wrong(value, "a table or an array of durations: a function is for the whole queue")
        return Backoff(**_read_short_backoff(value, folder))
    fields: dict[str, Any] = {}
    known = [key for key in BACKOFF.keys if key != "function"]
    for key, written in value.items():
        if key not in known:
            raise ValueError(f"{key[:40]} is no key of it; {suggestion(key, known)}")
        kind = BACKOFF.keys[key].kind
        assert isinstance(kind, Kind)
        try:
            fields[BACKOFF.keys[key].field] = kind.read(written, folder)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    made = Backoff(**fields)
    if made.max_ms < made.base_ms:
        raise ValueError(f"max: {show(made.max_ms)} is below base, {show(made.base_ms)}; raise one or lower the other")
    return made


_RULE_KEYS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "snooze": ("delay_ms", duration(1, YEAR_MS).read),
    "backoff": ("backoff", _read_rule_backoff),
    "max_attempts": ("max_attempts", integer(1, 1000).read),
}


def _show_rules(rules: dict[str, ErrorRule]) -> dict[str, Any]:
    return {name: _show_rule(rule) for name, rule in rules.items()}


def _show_rule(rule: ErrorRule) -> Any:
    if rule.action == "snooze":
        return {"snooze": show(rule.delay_ms)}
    shown_as: dict[str, Any] = {}
    if rule.backoff is not None:
        shown_as["backoff"] = _show_backoff(rule.backoff)
    if rule.max_attempts is not None:
        shown_as["max_attempts"] = rule.max_attempts
    return shown_as or rule.action


def _show_backoff(backoff: Backoff) -> dict[str, Any]:
    table = {}
    for name, key in BACKOFF.keys.items():
        value = getattr(backoff, key.field)
        assert isinstance(key.kind, Kind)
        if value is not None:
            table[name] = key.kind.show(value)
    return table


ON_ERROR = Kind(
    f"a table from kinds of error to {_RULE_SAYS}",
    _read_rules,
    {
        "type": "object",
        "maxProperties": RULES_MAX,
        "additionalProperties": {
            "anyOf": [
                {"enum": list(ACTIONS)},
                REFERENCE,
                {
                    "type": "object",
                    "properties": {name: {} for name in _RULE_KEYS},
                    "minProperties": 1,
                    "additionalProperties": False,
                },
            ]
        },
    },
    _show_rules,
)


def _read_on(value: Any, _folder: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise wrong(value, 'an array of kinds of error, such as ["ConnectionError", "timeout"]')
    if len(value) > RULES_MAX:
        raise ValueError(f"has {len(value)} elements; write at most {RULES_MAX}")
    found, problems = [], []
    for position, written in enumerate(value, 1):
        try:
            found.append(_read_counted(written))
        except ValueError as error:
            problems.append(f"element {position}: {error}")
    if problems:
        raise ValueError("; ".join(problems[:10]))
    return tuple(dict.fromkeys(found))


def _read_counted(written: Any) -> str:
    if not isinstance(written, str):
        raise wrong(written, "the name of a kind of error")
    if written == "crash":
        raise ValueError("crashes do not open a breaker; max_crashes bounds them, so leave it out")
    return read_name(written)


def _read_switch(value: Any, _folder: str) -> dict[str, Any] | None:
    if not isinstance(value, bool):
        raise wrong(value, 'a table such as { failures = 10, cooldown = "30s" }, or true or false')
    return {} if value else None


BREAKER = Section(
    Breaker,
    "Stops handing out jobs while what they need is down, and finds out by single probes when it is back.",
    {
        "failures": Key("failures", integer(1, 10_000), "failures in a row within `period` at which it opens"),
        "period": Key("period_ms", duration(1, DAY_MS), "the time within which they are in a row"),
        "cooldown": Key("cooldown_ms", duration(1, DAY_MS), "how long nothing is handed out before the first probe"),
        "max_cooldown": Key(
            "max_cooldown_ms",
            duration(1, DAY_MS),
            "each probe that fails doubles the cooldown, up to this; not below `cooldown`",
        ),
        "on": Key(
            "on",
            Kind(
                'an array of kinds of error, such as ["ConnectionError", "timeout"]',
                _read_on,
                {"type": "array", "items": {"type": "string"}, "maxItems": RULES_MAX},
                list,
            ),
            "the errors that count, named as in `on_error`; none: every failure that is retried",
        ),
    },
    Kind("true or false", _read_switch, {"type": "boolean"}),
)
