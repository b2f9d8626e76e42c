"""Which known name somebody may have meant who wrote one that is not known."""

from __future__ import annotations

from collections.abc import Iterable

NAME_MAX = 80
"""What is longer is cut: long names take long to compare, and nobody is to wait for a hint."""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like it; None if none is."""
    import difflib

    close = difflib.get_close_matches(name[:NAME_MAX], sorted(known), n=1, cutoff=0.6)
    return close[0] if close else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The hint about it; None if there is nothing to say."""
    close = closest(name, known)
    return None if close is None else f"did you mean {close}?"
