"""Conditions of steps: JMESPath expressions over what is known of a flow. They reach data, and nothing else.

An expression sees `results`, `states` and `signals`, by the names of what its step comes after or waits for, and
`context`. What counts as false is JMESPath's: false, null, and empty text, lists and objects. What it reads is bounded,
and so is the work that it may be: everybody's jobs wait while it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import jmespath
import msgspec
from jmespath.exceptions import JMESPathTypeError
from jmespath.functions import Functions
from jmespath.parser import Parser

from supervisor.flow.evaluation import WORK_MAX, Evaluation, Node, is_false

EXPRESSION_MAX = 1_000
BRACKETS_MAX = 50
"""So many brackets may be open in an expression: it is read by functions that call themselves."""
DEPTH_MAX = 100
"""So deep an expression may be, once it is read."""
GROWTH_MAX = WORK_MAX
"""So many times what it reads an expression may make of it: lists of parts that are piped into each other multiply it.
More could not be made at run time."""
READ_BYTES_MAX = 64 * 1024
"""So large, as JSON, is what an expression may read."""
KEPT, JUDGED = 64, 8
"""So many expressions are kept as they were read, and so many with what they read and what came of it."""
SAID_MAX = 300
DECODER = msgspec.json.Decoder(float_hook=float)
"""Its own way with numbers like 1e300 takes a hundred times as long."""


class BadCondition(ValueError):
    """An expression that is none, or that could not be computed."""


def check(expression: str) -> None:
    """Refuse what is no expression, and what can be seen to make too much of whatever it reads.

    Raises:
        BadCondition: it says what is wrong with it.
    """
    _parsed(expression)


def names_in(expression: str) -> set[tuple[str, str]]:
    """What an expression asks of results, states and signals by name: as ("results", "a"). One that was checked."""
    return {(path[0], path[1]) for path in _paths(_parsed(expression)) if len(path) == 2 and path[0] in NAMED}


def holds(expression: str, facts: Mapping[str, Any]) -> bool:
    """Whether it is true of these facts. Values among them may be JSON that is not decoded yet.

    Raises:
        BadCondition: it cannot be computed for them, or it would read or do more than it may.
    """
    tree = _parsed(expression)
    try:
        found = _judged(expression, _read(tree, facts))
    except BadCondition:
        raise
    except Exception as error:  # noqa: BLE001 - no expression may stop whoever looks at it
        raise BadCondition(_said(error)) from None
    if isinstance(found, str):
        raise BadCondition(found)
    return found


@lru_cache(JUDGED)
def _judged(expression: str, data: bytes) -> bool | str:
    """Whether it is true of these data, or why that cannot be computed.

    It is kept, as many steps that come after the same one often ask the same.
    """
    try:
        return not is_false(Evaluation().visit(_parsed(expression), DECODER.decode(data)))
    except Exception as error:  # noqa: BLE001 - what went wrong is what came of it
        return _said(error)


@lru_cache(KEPT)
def _parsed(expression: str) -> Node:
    """An expression as it was read, checked."""
    if len(expression) > EXPRESSION_MAX:
        raise BadCondition(f"it has {len(expression)} characters, the limit is {EXPRESSION_MAX}")
    if sum(map(expression.count, "([{!&")) > BRACKETS_MAX:
        raise BadCondition(f"it has more than {BRACKETS_MAX} brackets and signs")
    try:
        tree: Node = jmespath.compile(expression).parsed
    except Exception as error:  # noqa: BLE001 - what stumbles over a text is told as what refuses it
        raise BadCondition(_said(error)) from None
    finally:
        Parser.purge()  # what the library keeps has no bound in bytes
    if _growth(tree, 1) > GROWTH_MAX:
        raise BadCondition(f"it can make more than {GROWTH_MAX:,} times of what it reads")
    return tree


def _growth(node: Node, depth: int) -> int:
    """How many times what it reads a node can make of it, at most. What can be seen to be wrong with it is refused."""
    if depth > DEPTH_MAX:
        raise BadCondition(f"it is nested too deeply: more than {DEPTH_MAX} parts in parts")
    kind, called = node["type"], node.get("value")
    if kind == "function_expression" and called not in Functions.FUNCTION_TABLE:
        raise BadCondition(f"there is no function {called}")
    parts = [_growth(child, depth + 1) for child in node["children"] if isinstance(child, Mapping)]
    if kind in SCALARS:
        return 1
    if kind in ADDS and called != "map":
        return max(sum(parts), 1) * (2 if called == "to_string" else 1)  # what is quoted may be twice as long
    return prod(parts[:2] if kind == "filter_projection" else parts)  # its third part is what is true of each element


def _read(tree: Node, facts: Mapping[str, Any]) -> bytes:
    """What an expression asks of the facts, as JSON: of what it asks by name, no more than that."""
    asked = set(_paths(tree))
    wanted = dict(facts) if () in asked else {path[0]: facts[path[0]] for path in asked if path[0] in facts}
    for member, value in wanted.items():
        if isinstance(value, Mapping) and asked.isdisjoint({(), (member,)}):
            names = (path[1] for path in asked if path[0] == member)
            wanted[member] = {name: value[name] for name in names if name in value}
    data = msgspec.json.encode(wanted)
    if len(data) > READ_BYTES_MAX:
        raise BadCondition(f"what it reads has {len(data):,} bytes, the limit is {READ_BYTES_MAX:,}")
    return data


NAMED = frozenset({"results", "states", "signals"})
SCALARS = frozenset({"comparator", "not_expression", "literal"})
ADDS = frozenset(
    {"function_expression", "multi_select_dict", "multi_select_list", "or_expression", "and_expression"}
)  # fmt: skip
"""Kinds of nodes that make no more than all their parts do together. Of others, each part makes its own of the one
before it."""
WITHIN = frozenset(
    {"comparator", "or_expression", "and_expression", "not_expression", "function_expression", "multi_select_list",
     "multi_select_dict", "key_val_pair"}
)  # fmt: skip
"""Kinds of nodes whose parts are all asked of what the whole is asked of. Of others that is so of the first alone."""


def _paths(node: Node) -> Iterator[tuple[str, ...]]:
    """What is asked of the facts: members, or what they have by a name; () is all of them."""
    kind, children = node["type"], node["children"]
    if kind == "field":
        yield (node["value"],)
    elif kind == "subexpression" and [child["type"] for child in children[:2]] == ["field", "field"]:
        yield children[0]["value"], children[1]["value"]
    elif kind in ("current", "identity"):
        yield ()
    elif kind != "expref":
        for child in children if kind in WITHIN else children[:1]:
            yield from _paths(child)


def _said(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, JMESPathTypeError):  # its own words have all of the value in them
        wanted = " or ".join(error.expected_types)
        return f"{error.function_name}() takes {wanted}, and was given a value of an invalid type: {error.actual_type}"
    return printable(" ".join(str(error).split())[:SAID_MAX]) or type(error).__name__


def printable(text: str) -> str:
    """A text that can be stored and shown: what an expression holds may be half of a surrogate pair, as an escape."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
