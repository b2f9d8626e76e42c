"""The kind of value that `workers` has: a number, or a range within which the load decides. Pure."""

from __future__ import annotations

from typing import Any

from supervisor.config.kinds import Kind, integer
from supervisor.config.problem import dotted
from supervisor.config.spec import WorkerRange

BOUNDS = ("min", "max")


def workers(high: int) -> Kind:
    """A number of workers from 1 to `high`, or `{ min = ..., max = ... }` with both of them such numbers."""
    number = integer(1, high)
    says = f"{number.says}, or {{ min = 1, max = 8 }}"

    def read(value: Any, folder: str) -> int | WorkerRange:
        if isinstance(value, dict):
            return _range(value, number)
        try:
            return int(number.read(value, folder))
        except ValueError as error:
            raise ValueError(str(error).replace(number.says, says)) from None

    def show(value: int | WorkerRange) -> int | dict[str, int]:
        return value if isinstance(value, int) else {"min": value.min, "max": value.max}

    bounds = {
        "type": "object",
        "properties": dict.fromkeys(BOUNDS, number.schema),
        "required": list(BOUNDS),
        "additionalProperties": False,
    }
    return Kind(says, read, {"anyOf": [*number.schema["anyOf"], bounds]}, show)


def _range(written: dict[str, Any], number: Kind) -> WorkerRange:
    """The range that a table means; all that is wrong with it is named at once."""
    problems = [f"{dotted((name,))}: unknown key; write min and max" for name in written if name not in BOUNDS]
    found = {}
    for name in BOUNDS:
        if name not in written:
            problems.append(f"has no {name}; write {{ min = 1, max = 8 }}")
            continue
        try:
            found[name] = number.read(written[name], "")
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ValueError("; ".join(problems[:10]))
    if found["min"] > found["max"]:
        raise ValueError(f"min {found['min']} is above max {found['max']}; write the smaller number as min")
    return WorkerRange(**found)
