"""Conditions of steps: JMESPath expressions over what is known of a flow. They reach data, and nothing else.

An expression sees `results`, `states` and `signals`, by the names of what its step comes after or waits for, and
`context`. What counts as false is JMESPath's: false, null, and empty text, lists and objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

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
    return found is not None and found is not False and found not in ("", [], {})


def _compiled(expression: str) -> Any:
    if len(expression) > EXPRESSION_MAX:
        raise BadCondition(f"it has {len(expression)} characters, the limit is {EXPRESSION_MAX}")
    if sum(map(expression.count, "([{!&")) > DEPTH_MAX:
        raise BadCondition(f"it has more than {DEPTH_MAX} brackets and signs")
    try:
        found = jmespath.compile(expression)
        _check_functions(found.parsed)
    except (JMESPathError, RecursionError, ValueError) as error:
        raise BadCondition(_said(error)) from None
    return found


def _check_functions(node: Mapping[str, Any]) -> None:
    """Refuse functions that there are not: that would come out only when the step is due."""
    if node["type"] == "function_expression" and node["value"] not in Functions.FUNCTION_TABLE:
        raise BadCondition(f"there is no function {node['value']}")
    for child in node["children"]:
        if isinstance(child, Mapping):
            _check_functions(child)


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:SAID_MAX] or type(error).__name__
