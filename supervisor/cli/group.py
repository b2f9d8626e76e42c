"""Groups of commands, which ask whether another one was meant where they have none of a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

ELSEWHERE = {("flow", "wait"): "jobsctl wait ID waits for flows as well"}
"""What is not done by a command of a group, though one may look for it there."""


class Group(click.Group):
    """A group whose refusal of a name says what it has."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; {self._instead(args[0], known)}", ctx)
        return super().resolve_command(ctx, args)

    def _instead(self, name: str, known: list[str]) -> str:
        from supervisor.config.problem import suggestion

        return ELSEWHERE.get((self.name or "", name)) or suggestion(name, known)


def group(name: str) -> Callable[[Callable[..., Any]], Group]:
    """Make a function a group of that name; its docstring is the help."""
    return click.group(name, cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
