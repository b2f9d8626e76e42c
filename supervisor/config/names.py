"""Names within scopes: `shop/emails` is the queue `emails` of the scope `shop`. Pure.

*Invariant:* nobody can write a name with a `/` in it, so a name says of itself which scope it is of, and behind the
place where clients are let in nothing needs to know of scopes. The scope of the main file has no name, and no name of
it has a `/`.
"""

from __future__ import annotations

SEPARATOR = "/"


def scope_of(name: str) -> str:
    """The scope of a name of a queue, pool or limit; empty for those of the main file."""
    return name.rpartition(SEPARATOR)[0]


def short_name(name: str) -> str:
    """The name as it is known within its scope."""
    return name.rpartition(SEPARATOR)[2]


def internal_name(scope: str, name: str) -> str:
    """The name as everybody below the boundary knows it."""
    return f"{scope}{SEPARATOR}{name}" if scope else name


def inner_name(scope: str, name: str) -> str:
    """The internal name of what somebody in a scope calls `name`; one that nothing has, if a `/` was written in it."""
    return f"{SEPARATOR}{name}" if SEPARATOR in name else internal_name(scope, name)
