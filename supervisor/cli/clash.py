"""Whether another distribution has put files into our import package: PyPI's `supervisor` would."""

from __future__ import annotations

from typing import NamedTuple

OURS = "jobsup"


class Clash(NamedTuple):
    """What is wrong, and what to do about it."""

    message: str
    remedy: str


def clash() -> Clash | None:
    """The clash, if there is one. Costs some 40 ms: for jobsupd and doctor, not for enqueue."""
    from importlib.metadata import packages_distributions

    others = sorted({name for name in packages_distributions().get("supervisor", ()) if name.lower() != OURS})
    if not others:
        return None
    return Clash(
        f"the distribution {', '.join(others)} has its files in the import package `supervisor`, which is jobsup's",
        f"install jobsup in an environment of its own (python -m venv, pipx), without {', '.join(others)}",
    )
