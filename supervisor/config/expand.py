"""`${NAME}` and `${NAME:-default}` in values: what the environment says, at the time of loading. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
_SYNTAX = "write ${NAME} or ${NAME:-default}, and $${ for the characters themselves"


class FromEnvironment(str):
    """Text with an environment value in it: it may stand for a number or a boolean, other text may not."""

    __slots__ = ()


def expand(value: Any, environ: Mapping[str, str]) -> Any:
    """The value with every reference in it replaced, in arrays and tables too.

    Raises:
        ValueError: a variable without default is not set, or the braces are no reference.
    """
    if isinstance(value, str):
        return _expand_text(value, environ)
    if isinstance(value, list):
        return [expand(element, environ) for element in value]
    if isinstance(value, dict):
        return {name: expand(element, environ) for name, element in value.items()}
    return value


def refers(value: Any) -> bool:
    """Whether text holds a reference; for the places where none may stand."""
    return isinstance(value, str) and "${" in value


def escape(text: str) -> str:
    """The text so written that `expand` gives it back."""
    return text.replace("${", "$${")


def _expand_text(text: str, environ: Mapping[str, str]) -> str:
    if "${" not in text:
        return text
    return FromEnvironment(_REFERENCE.sub(lambda found: _replacement(found, environ), text))


def _replacement(found: re.Match[str], environ: Mapping[str, str]) -> str:
    if found[0] == "$${":
        return "${"
    name, default = found[1], found[2]
    if name is None:
        raise ValueError(f"a brace after $ that is no reference; {_SYNTAX}")
    if value := environ.get(name):
        return value
    if default is None:
        raise ValueError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return default
