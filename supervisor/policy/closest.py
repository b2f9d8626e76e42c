"""Which known name somebody may have meant who wrote one that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

FEW = 20
NAME_MAX = 80
"""What is longer is cut: long names take long to compare, and nobody is to wait for a hint."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like it; None if none is."""
    import difflib

    close = difflib.get_close_matches(name[:NAME_MAX], sorted(known), n=1, cutoff=0.6)
    return close[0] if close else None


def closest_of_few(name: str, known: Iterable[str]) -> str | None:
    """The same, of many names, where time is dear: some of those that begin with the same character are compared."""
    return closest(name, islice((each for each in known if each[:1] == name[:1]), FEW))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The hint about it; None if there is nothing to say."""
    close = closest(name, known)
    return None if close is None else f"did you mean {close}?"
