"""The options that say which jobs are meant, for the commands that list, export and delete them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supervisor.cli.parameters import INSTANT_OR_AGE, QUEUE
from supervisor.job import State

if TYPE_CHECKING:
    from supervisor.store.history import Search

F = TypeVar("F", bound=Callable[..., Any])

MEMBERS = ("tag", "since", "until", "by", "text", "error_type")


def search_options(function: F) -> F:
    """Give a command the options of a search; all that are given must hold."""
    for option in (
        click.option("--error-type", metavar="CLASS", help="Whose last error is of this exception class."),
        click.option("--text", metavar="TEXT", help="With this text in the payload, or in the last error."),
        click.option("--by", type=click.Choice(["enqueued", "finished"]), default="enqueued", show_default=True,
                     help="The time that --since and --until speak of."),
        click.option("--until", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="Before then."),
        click.option("--since", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="Then or later, such as 1h ago."),
        click.option("--tag", metavar="TEXT", help="Only jobs with this tag."),
        click.option("--state", type=click.Choice([state.value for state in State]), help="Only jobs in this state."),
        click.option("--queue", metavar="QUEUE", type=QUEUE, help="Only jobs of this queue."),
    ):  # fmt: skip
        function = option(function)
    return function


def as_search(
    tag: str | None, since: int | None, until: int | None, by: str, text: str | None, error_type: str | None
) -> Search:
    """The options as the store takes them."""
    from supervisor.store.history import Search

    return Search(since, until, by == "finished", tag, text, error_type)
