"""JMESPath over data, by an interpreter that counts its work: what asks for too much is stopped before it is done.

The parser is the library's, and so is each function, called once its cost is known from the size of what it is given.
What an expression comes to is what the library says of it, in all that fits.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from jmespath.functions import Functions

Node: TypeAlias = Mapping[str, Any]

WORK_MAX = 5_000
"""So much work an evaluation may be: nodes visited, elements walked or made, texts by their length.
About a millisecond."""
TEXT_UNIT = 64
"""So many characters of a text are as much work as one element."""
FUNCTIONS = Functions()
FREE = frozenset({"length", "not_null", "to_array", "type"})
"""Functions whose cost does not grow with what they are given."""
SORTS = frozenset({"sort", "sort_by"})
CALL, COMPARE = 8, 3
"""So much more work than a visit of a node it is to call a function, and to compare two values."""
COMPARED_TIMES = 16
"""So often a text is compared while as many are sorted as an evaluation can reach."""
NEEDLE_MAX = 100
"""Of a longer text, looking for it costs no more for each character that is looked at."""
ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt, "gt": operator.gt, "lte": operator.le, "gte": operator.ge,
}  # fmt: skip


class TooMuchWork(ValueError):
    """An evaluation would be more work than it may be."""

    def __init__(self) -> None:
        super().__init__(f"it takes too much work: more than {WORK_MAX:,} steps and elements")


class _Expression:
    """What `&` makes of an expression. The library knows it by the name of its class."""

    def __init__(self, expression: Node, evaluation: Evaluation) -> None:
        self.expression = expression
        self._evaluation = evaluation

    def visit(self, expression: Node, value: Any) -> Any:
        """What it is of one element; a text may then be compared with others."""
        found = self._evaluation.visit(expression, value)
        self._evaluation.charge(1 + (len(found) // TEXT_UNIT * COMPARED_TIMES if isinstance(found, str) else 0))
        return found


class Evaluation:
    """One evaluation, and how much work it has done."""

    def __init__(self) -> None:
        self.work = 0

    def charge(self, work: int) -> None:
        """Count work that is about to be done.

        Raises:
            TooMuchWork: it is more than may be done.
        """
        if self.work + work > WORK_MAX:
            raise TooMuchWork
        self.work += work

    def visit(self, node: Node, value: Any) -> Any:
        """What a node of an expression is of a value.

        Raises:
            TooMuchWork: it would be more work than may be done.
            JMESPathError, ArithmeticError, TypeError, ValueError: it cannot be computed.
        """
        if self.work >= WORK_MAX:
            raise TooMuchWork
        self.work += 1
        return self._VISITS[node["type"]](self, node, value)

    # -- single values -----------------------------------------------------------------------------------------------

    def _current(self, _node: Node, value: Any) -> Any:
        return value

    def _literal(self, node: Node, _value: Any) -> Any:
        return node["value"]

    def _field(self, node: Node, value: Any) -> Any:
        return value.get(node["value"]) if isinstance(value, dict) else None

    def _index(self, node: Node, value: Any) -> Any:
        if not isinstance(value, list):
            return None
        try:
            return value[node["value"]]
        except IndexError:
            return None

    def _chain(self, node: Node, value: Any) -> Any:
        for child in node["children"]:
            value = self.visit(child, value)
        return value

    def _expref(self, node: Node, _value: Any) -> _Expression:
        return _Expression(node["children"][0], self)

    # -- lists and objects -------------------------------------------------------------------------------------------

    def _slice(self, node: Node, value: Any) -> Any:
        if not isinstance(value, list):
            return None
        wanted = slice(*node["children"])
        self.charge(len(range(*wanted.indices(len(value)))))
        return value[wanted]

    def _flatten(self, node: Node, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        if not isinstance(base, list):
            return None
        flat: list[Any] = []
        for element in base:
            inner = element if isinstance(element, list) else [element]
            self.charge(1 + len(inner))
            flat += inner
        return flat

    def _multi_select_list(self, node: Node, value: Any) -> Any:
        return None if value is None else [self.visit(child, value) for child in node["children"]]

    def _multi_select_dict(self, node: Node, value: Any) -> Any:
        if value is None:
            return None
        return {child["value"]: self.visit(child["children"][0], value) for child in node["children"]}

    def _projection(self, node: Node, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        return self._each(node["children"][1], base) if isinstance(base, list) else None

    def _value_projection(self, node: Node, value: Any) -> Any:
        base = self.visit(node["children"][0], value)
        return self._each(node["children"][1], base.values()) if isinstance(base, dict) else None

    def _filter_projection(self, node: Node, value: Any) -> Any:
        base, made, wanted = node["children"]
        elements = self.visit(base, value)
        if not isinstance(elements, list):
            return None
        return self._each(made, (element for element in elements if not is_false(self.visit(wanted, element))))

    def _each(self, node: Node, elements: Iterable[Any]) -> list[Any]:
        found = (self.visit(node, element) for element in elements)
        return [each for each in found if each is not None]

    # -- what is true ------------------------------------------------------------------------------------------------

    def _or(self, node: Node, value: Any) -> Any:
        first = self.visit(node["children"][0], value)
        return self.visit(node["children"][1], value) if is_false(first) else first

    def _and(self, node: Node, value: Any) -> Any:
        first = self.visit(node["children"][0], value)
        return first if is_false(first) else self.visit(node["children"][1], value)

    def _not(self, node: Node, value: Any) -> bool:
        found = self.visit(node["children"][0], value)
        return not found and not _is_number(found)

    def _comparator(self, node: Node, value: Any) -> Any:
        self.charge(COMPARE)
        left, right = (self.visit(child, value) for child in node["children"])
        if node["value"] in ORDERS:
            return self._ordered(ORDERS[node["value"]], left, right)
        unlike = isinstance(left, bool) != isinstance(right, bool) and (_is_number(left) or _is_number(right))
        same = not unlike and self._equal(left, right)
        return same if node["value"] == "eq" else not same

    def _ordered(self, compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool | None:
        if not all(_is_number(each) or isinstance(each, str) for each in (left, right)):
            return None
        self._walk(left)
        return compare(left, right)

    def _equal(self, left: Any, right: Any) -> bool:
        """Whether values are the same: what is in them is compared as Python does, and counted, pair by pair."""
        self.charge(COMPARE)
        if isinstance(left, list) and isinstance(right, list):
            if len(left) != len(right):
                return False
            pairs = zip(left, right, strict=True)
        elif isinstance(left, dict) and isinstance(right, dict):
            self.charge(min(len(left), len(right)))
            if left.keys() != right.keys():
                return False
            pairs = ((value, right[key]) for key, value in left.items())  # type: ignore[assignment]
        else:
            self._walk(left if isinstance(left, str) else None)
            return bool(left == right)
        return all(one is other or self._equal(one, other) for one, other in pairs)

    # -- functions ---------------------------------------------------------------------------------------------------

    def _call(self, node: Node, value: Any) -> Any:
        self.charge(CALL)
        name, given = node["value"], [self.visit(child, value) for child in node["children"]]
        if name == "contains" and len(given) == 2 and isinstance(given[0], list):
            return any(each is given[1] or self._equal(each, given[1]) for each in given[0])
        if name not in FREE:
            for each in given:
                self._walk(each)
            self._charge_more(name, given)
        return FUNCTIONS.call_function(name, given)

    def _charge_more(self, name: str, given: list[Any]) -> None:
        """What a function costs beyond a walk over what it is given."""
        first, last = (given[0], given[-1]) if given else (None, None)
        if name in SORTS and isinstance(first, list):
            self.charge(len(first) * len(first).bit_length() // 4 + _text(first) * COMPARED_TIMES)
        elif name == "join" and isinstance(first, str) and isinstance(last, list):
            self.charge(len(last) * (len(first) // TEXT_UNIT))
        elif name == "contains" and isinstance(first, str) and isinstance(last, str):
            self.charge(len(first) // TEXT_UNIT * min(len(last), NEEDLE_MAX) // 8)
        elif name == "to_number" and isinstance(first, str):
            self.charge(len(first) // 16)
        elif name == "to_string":
            self._weigh(first)

    def _walk(self, value: Any) -> None:
        """Count a look at each element of a value, and at texts among them."""
        if isinstance(value, str):
            self.charge(len(value) // TEXT_UNIT)
        elif isinstance(value, dict | list):
            self.charge(len(value))
        if isinstance(value, list):
            self.charge(_text(value))

    def _weigh(self, value: Any) -> None:
        """Count all that is in a value: what is in it twice is written twice."""
        self.charge(1)
        if isinstance(value, str):
            self.charge(len(value) * 4 // TEXT_UNIT)
        elif isinstance(value, int):
            self.charge((value.bit_length() // 64) ** 2 // 16)  # long numbers are written in the square of their length
        elif isinstance(value, list):
            for each in value:
                self._weigh(each)
        elif isinstance(value, dict):
            for key, each in value.items():
                self._weigh(key)
                self._weigh(each)

    _VISITS: ClassVar[Mapping[str, Callable[[Any, Node, Any], Any]]] = {
        "and_expression": _and, "comparator": _comparator, "current": _current,
        "expref": _expref, "field": _field, "filter_projection": _filter_projection,
        "flatten": _flatten, "function_expression": _call, "identity": _current,
        "index": _index, "index_expression": _chain, "literal": _literal,
        "multi_select_dict": _multi_select_dict, "multi_select_list": _multi_select_list,
        "not_expression": _not, "or_expression": _or, "pipe": _chain,
        "projection": _projection, "slice": _slice, "subexpression": _chain,
        "value_projection": _value_projection,
    }  # fmt: skip
    """Kinds of nodes -> what is done about them."""


def is_false(value: Any) -> bool:
    """What counts as false: null, false, and what is empty. No number does."""
    return value is None or value is False or (isinstance(value, dict | list | str) and not value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(values: Iterable[Any]) -> int:
    """How much work the texts among values are."""
    return sum(len(each) // TEXT_UNIT for each in values if isinstance(each, str))
