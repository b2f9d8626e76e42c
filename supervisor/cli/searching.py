"""The search that the options of `list` and `export` ask for."""

from __future__ import annotations

from supervisor.store.history import Search


def as_search(
    tag: str | None,
    since: int | None,
    until: int | None,
    by: str,
    text: str | None,
    error_type: str | None,
    key: str | None,
    task: str | None,
) -> Search:
    """The options as the store takes them."""
    return Search(since, until, by == "finished", tag, text, error_type, key, task)
