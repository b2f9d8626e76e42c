"""What checks a payload by the schema that code has published, without having the last word."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest

from supervisor.keeper.published import check_of


def fits(kind: Any, value: Any) -> bool:
    check = check_of(json.dumps(msgspec.json.schema(kind)))
    assert check is not None
    try:
        check(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "kind, value",
    [
        (Annotated[str, msgspec.Meta(pattern=r"^\\w+$")], "\u00e9"),
        (Annotated[str, msgspec.Meta(pattern=r"(?P<x>a)(?P=x)")], "aa"),
        (Decimal, 1.5),
        (Decimal, "1.5"),
        (set[int], [1, 1]),
        (datetime, "2026-01-31T09:00:00Z"),
    ],
)
def test_what_code_may_take_passes(kind: Any, value: Any) -> None:
    assert fits(kind, value)


def test_members_may_be_called_what_schemas_call_theirs() -> None:
    kind = msgspec.defstruct("T", [("pattern", str), ("uniqueItems", int), ("enum", int)], forbid_unknown_fields=True)
    assert fits(kind, {"pattern": "a", "uniqueItems": 1, "enum": 2})
    assert not fits(kind, {"pattern": 5, "uniqueItems": 1, "enum": 2})
    assert not fits(kind, {"uniqueItems": 1, "enum": 2})


@pytest.mark.parametrize("kind, value", [(UUID, "x"), (Decimal, [1]), (set[int], ["a"]), (int, "1")])
def test_what_no_code_takes_does_not(kind: Any, value: Any) -> None:
    assert not fits(kind, value)


@pytest.mark.parametrize("schema", ["", "[", "1", '{"$ref": "http://127.0.0.1:1/x"}', '{"type": 5}'])
def test_a_schema_that_nobody_can_read_checks_nothing(schema: str) -> None:
    assert check_of(schema) is None


def test_what_is_said_is_short_and_names_no_value() -> None:
    check = check_of('{"type": "object", "additionalProperties": {"type": "integer"}}')
    assert check is not None
    with pytest.raises(ValueError, match='this is not of type "integer", at') as refused:
        check({"k" * 10_000: "secret" * 10_000})
    assert "secret" not in str(refused.value)
    assert len(str(refused.value)) < 1_000
