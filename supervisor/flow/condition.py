"""Conditions of steps: JMESPath expressions over what is known of a flow. They reach data, and nothing else.

An expression sees `results`, `states` and `signals`, by the names of what its step comes after or waits for, and
`context`. What counts as false is JMESPath's: false, null, and empty text, lists and objects.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


def names_in(expression: str) -> set[tuple[str, str]]:
    """What an expression asks of results, states and signals by name: as ("results", "a"). One that was checked."""
    return set(_named(_compiled(expression).parsed))


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


NAMED = frozenset({"results", "states", "signals"})
WITHIN = frozenset(
    {"comparator", "or_expression", "and_expression", "not_expression", "function_expression", "multi_select_list",
     "multi_select_dict", "key_val_pair"}
)  # fmt: skip
"""Kinds of nodes whose parts are all asked of what the whole is asked of. Of others that is so of the first alone."""


def _named(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    children = node["children"]
    if node["type"] == "subexpression" and [child["type"] for child in children[:2]] == ["field", "field"]:
        if children[0]["value"] in NAMED:
            yield children[0]["value"], children[1]["value"]
    elif node["type"] != "expref":
        for child in children if node["type"] in WITHIN else children[:1]:
            if isinstance(child, Mapping):
                yield from _named(child)


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:SAID_MAX] or type(error).__name__
