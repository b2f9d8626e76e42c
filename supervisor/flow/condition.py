"""Conditions of steps: JMESPath expressions over what is known of a flow. They reach data, and nothing else.

An expression sees `results`, `states` and `signals`, by the names of what its step comes after or waits for, and
`context`. What counts as false is JMESPath's: false, null, and empty text, lists and objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError

EXPRESSION_MAX = 1_000
DEPTH_MAX = 50
"""So many brackets may be open in an expression: it is read by functions that call themselves."""
SAID_MAX = 300
UNCOMPUTED = (
    JMESPathError, RecursionError, ArithmeticError, TypeError, ValueError, LookupError, AttributeError,
)  # fmt: skip


class BadCondition(ValueError):
    """An expression that is none, or that could not be computed."""


def check(expression: str) -> None:
    """Refuse what is no expression.

    Raises:
        BadCondition: it says what is wrong with it.
    """
    _compiled(expression)


def holds(expression: str, facts: Mapping[str, Any]) -> bool:
    """Whether it is true of these facts.

    Raises:
        BadCondition: it cannot be computed for them.
    """
    try:
        found = _compiled(expression).search(facts)
    except UNCOMPUTED as error:
        raise BadCondition(_said(error)) from None
    return found not in (None, False, "") and found not in ([], {})


def _compiled(expression: str) -> Any:
    if len(expression) > EXPRESSION_MAX:
        raise BadCondition(f"it has {len(expression)} characters, the limit is {EXPRESSION_MAX}")
    if sum(map(expression.count, "([{!&")) > DEPTH_MAX:
        raise BadCondition(f"it has more than {DEPTH_MAX} brackets and signs")
    try:
        return jmespath.compile(expression)
    except (JMESPathError, RecursionError, ValueError) as error:
        raise BadCondition(_said(error)) from None


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:SAID_MAX] or type(error).__name__
