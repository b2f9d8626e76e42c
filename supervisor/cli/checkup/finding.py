"""What a check finds, and in which words it is kept: a stable name, how bad it is, what is so, what to do."""

from __future__ import annotations

from typing import Literal, NamedTuple

Severity = Literal["problem", "warning", "note"]
"""`problem`: something does not work, or will not; `warning`: it may stop working; `note`: good to know."""


class Finding(NamedTuple):
    """One mishap. `name` is stable and documented in docs/doctor.md; `remedy` is what to do about it."""

    name: str
    severity: Severity
    message: str
    remedy: str


def problem(name: str, message: str, remedy: str) -> Finding:
    """Something that does not work, or will not."""
    return Finding(name, "problem", message, remedy)


def warning(name: str, message: str, remedy: str) -> Finding:
    """Something that may stop working, or that nobody can have meant."""
    return Finding(name, "warning", message, remedy)


def note(name: str, message: str, remedy: str) -> Finding:
    """Something that is as it may be, and good to know."""
    return Finding(name, "note", message, remedy)
