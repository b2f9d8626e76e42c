"""What a queue does about errors of one kind: rules by exception class, exit status, signal, time-out or crash.

A rule's name is the class of an exception, bare (`Timeout`) or with its module (`requests.exceptions.Timeout`), or
`exit N`, `signal N`, `timeout` or `crash`. Of an exception every base class counts, the most derived one first; for
one class the name with its module goes before the bare one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, TypeVar

from supervisor.job import Failed
from supervisor.policy.backoff import Backoff

RETRY, DEAD, CANCEL, SNOOZE = "retry", "dead", "cancel", "snooze"
ACTIONS = (RETRY, DEAD, CANCEL, SNOOZE)
TIMEOUT, CRASH = "timeout", "crash"

T = TypeVar("T")


class Rule(NamedTuple):
    """What is done about an error. For `snooze` the job runs again after `delay_ms`, and nothing is charged.

    For `retry`, what is None is as for every other error of the queue. `max_attempts` of the rule for crashes stands
    for `max_crashes`.
    """

    action: str = RETRY
    delay_ms: int = 0
    max_attempts: int | None = None
    backoff: Backoff | None = None


def names_of(failed: Failed) -> Iterator[str]:
    """The names by which a failure can be meant, the narrowest first."""
    if failed.exit_code is not None:
        yield f"exit {failed.exit_code}"
    if failed.signal is not None:
        yield f"signal {failed.signal}"
    if failed.kind == TIMEOUT:
        yield TIMEOUT
    for name in failed.classes or ((failed.type,) if failed.type else ()):
        yield name
        bare = name.rpartition(".")[2]
        if bare != name:
            yield bare


def rule_for(rules: Mapping[str, T], failed: Failed) -> T | None:
    """The rule of the narrowest name that has one."""
    if not rules:
        return None
    return next((rules[name] for name in names_of(failed) if name in rules), None)


def named(names: Collection[str], failed: Failed) -> bool:
    """Whether any name of the failure is among these."""
    return any(name in names for name in names_of(failed))
