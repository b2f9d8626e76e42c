"""The brace syntax of `command`: which arguments are fixed text, and which a payload member fills.

`"{path}"` is a field and fills its whole argument, so that a value can never become a second argument or part
of an option. In any other argument a brace is written twice: `"{{literal}}"` is the text `{literal}`.
Pure; the executor and the checks at load read commands with the same functions.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]{0,63})\}")
_LONE = re.compile(r"(?:\{\{|\}\}|[^{}])*")


class Text(NamedTuple):
    """An argument that is the same for every job."""

    text: str


class Field(NamedTuple):
    """An argument that the payload's member of this name fills."""

    member: str


Argument = Text | Field


def parse_argument(written: str) -> Argument:
    """What one element of `command` means.

    Raises:
        ValueError: a brace that is neither a whole field nor doubled; the message says what would be right.
    """
    if field := _FIELD.fullmatch(written):
        return Field(field[1])
    if _LONE.fullmatch(written):
        return Text(written.replace("{{", "{").replace("}}", "}"))
    if _FIELD.search(written):
        raise ValueError('a field fills a whole argument: write "{member}" alone, or double the braces')
    raise ValueError('write {{ for a brace, or "{member}" with a name of letters, digits, _ and -')


def parse_command(command: tuple[str, ...]) -> tuple[Argument, ...]:
    """All arguments of a command, the program first.

    Raises:
        ValueError: as `parse_argument`, or the program itself would come from the payload.
    """
    arguments = tuple(parse_argument(written) for written in command)
    if not arguments or not isinstance(arguments[0], Text) or not arguments[0].text:
        raise ValueError("the program to run is fixed: write its name or path first")
    return arguments
