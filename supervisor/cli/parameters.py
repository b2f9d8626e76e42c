"""What arguments and options may be: job ids, queues, durations, instants; wrong ones are usage errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from supervisor.job import JOB_ID_MAX, JOB_KEY_LENGTH_MAX, State

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

QUEUE_NAME_MAX = 63


class QueueName(click.ParamType):  # type: ignore[type-arg] # generic only in newer clicks
    """The name of a queue; the shell completes it from the configuration."""

    name = "queue"

    def __init__(self, *, pattern: bool = True) -> None:
        self.pattern = pattern

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value or len(value) > QUEUE_NAME_MAX:
            self.fail(f"the name of a queue has 1 to {QUEUE_NAME_MAX} characters", param, ctx)
        if not self.pattern and value.endswith("*"):
            self.fail(f"{value!r} is a pattern; name a queue that it stands for", param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        from supervisor.cli.invocation import Invocation

        names = ctx.ensure_object(Invocation).queue_names()
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class JobId(click.ParamType):  # type: ignore[type-arg] # as above
    """The id of a job, or a number of that size which is called something else."""

    name = "id"

    def __init__(self, called: str = "job id", several: str = "ids") -> None:
        self._called = called
        self._several = several

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not (text.isascii() and text.isdigit()) or len(text) > 16 or not 1 <= int(text) <= JOB_ID_MAX:
            self.fail(f"{text[:40]!r} is no {self._called}; {self._several} are 1 to {JOB_ID_MAX}", param, ctx)
        return int(text)


class DurationText(click.ParamType):  # type: ignore[type-arg] # as above
    """A duration such as 30s or 1h30m; its value is milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from supervisor.policy.duration import parse_ms

        if isinstance(value, int):
            return value
        try:
            return parse_ms(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class WorkersText(click.ParamType):  # type: ignore[type-arg] # as above
    """A number of workers, or two with a dash; as it is written in TOML."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | dict[str, int]:
        least, dash, most = str(value).partition("-")
        if not all(
            part.isascii() and part.isdigit() and len(part) < 10 for part in ([least, most] if dash else [least])
        ):
            self.fail(
                f"{str(value)[:40]!r} is no number of workers; write one such as 4, or bounds such as 1-8", param, ctx
            )
        return {"min": int(least), "max": int(most)} if dash else int(least)


class Instant(click.ParamType):  # type: ignore[type-arg] # as above
    """An instant in RFC 3339, with its offset from UTC; its value is milliseconds since 1970."""

    name = "time"

    def __init__(self, *, ago: bool = False) -> None:
        self._ago = ago

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if self._ago and value[-1:] in ("s", "m", "h", "d"):
            return _now_ms() - DURATION.convert(value, param, ctx)
        from datetime import datetime

        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; write one such as 2030-01-31T08:00:00Z{self._or_ago()}", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"{value!r} does not say its offset from UTC; add Z, or one such as +02:00", param, ctx)
        ms = round(instant.timestamp() * 1000)
        if ms < 0:
            self.fail("times before 1970 are not taken", param, ctx)
        return ms

    def _or_ago(self) -> str:
        return ", or an age such as 7d" if self._ago else ""


class FingerprintText(click.ParamType):  # type: ignore[type-arg] # as above
    """The fingerprint of an error."""

    name = "fingerprint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if len(text) != 16 or not set(text) <= set("0123456789abcdef"):
            self.fail(f"{text[:40]!r} is no fingerprint; jobsctl dead groups shows those that there are", param, ctx)
        return text


class PaceText(click.ParamType):  # type: ignore[type-arg] # as above
    """A pace such as 10/s; its value is jobs and milliseconds."""

    name = "pace"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        from supervisor.policy.replay import parse_pace

        if isinstance(value, tuple):
            return value
        try:
            return tuple(parse_pace(str(value)))  # type: ignore[return-value]
        except ValueError as error:
            self.fail(f"{str(value)[:40]!r}: {error}", param, ctx)


class Delays(click.ParamType):  # type: ignore[type-arg] # as above
    """Durations joined by commas; its value is a list of milliseconds."""

    name = "delays"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        return [DURATION.convert(part.strip(), param, ctx) for part in value.split(",")]


class Deadline(click.ParamType):  # type: ignore[type-arg] # as above
    """An instant, or a duration from now; its value is the member of the protocol that says so."""

    name = "deadline"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        if isinstance(value, dict):
            return value
        if "-" in value:
            return {"deadline_at_ms": INSTANT.convert(value, param, ctx)}
        return {"deadline_ms": DURATION.convert(value, param, ctx)}


def _now_ms() -> int:
    from supervisor.unix.clock import wall_ms

    return wall_ms()


class JobKeyText(click.ParamType):  # type: ignore[type-arg] # as above
    """What a job belongs to; where it says which jobs are meant, it is empty for those that belong to nothing."""

    name = "key"

    def __init__(self, *, empty: bool = True) -> None:
        self.empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        if not (text or self.empty):
            self.fail("it has at least one character; leave the option out for a job without", param, ctx)
        if len(text) > JOB_KEY_LENGTH_MAX or not text.isprintable():
            self.fail(
                f"{text[:40]!r} is no key; keys have at most {JOB_KEY_LENGTH_MAX} printable characters", param, ctx
            )
        return text


QUEUE = QueueName()
ONE_QUEUE = QueueName(pattern=False)
"""Where a pattern would only find nothing."""
JOB_KEY = JobKeyText()
OWN_KEY = JobKeyText(empty=False)
DURATION = DurationText()
DELAYS = Delays()
DEADLINE = Deadline()
INSTANT = Instant()
INSTANT_OR_AGE = Instant(ago=True)
JOB_ID = JobId()
TOKEN = JobId("token of a lease", "tokens")
WORKERS = WorkersText()
FINGERPRINT = FingerprintText()
PACE = PaceText()

F = TypeVar("F", bound=Callable[..., Any])


def search_options(function: F) -> F:
    """Give a command the options of a search; all that are given must hold."""
    for option in (
        click.option("--error-type", metavar="CLASS", help="Whose last error is of this exception class."),
        click.option("--text", metavar="TEXT", help="With this text in the payload, or in the last error."),
        click.option("--by", type=click.Choice(["enqueued", "finished"]), default="enqueued", show_default=True,
                     help="The time that --since and --until speak of."),
        click.option("--until", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="Before then."),
        click.option("--since", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="Then or later, such as 1h ago."),
        click.option("--key", metavar="KEY", type=JOB_KEY, help="Only jobs of this key; '' for those without one."),
        click.option("--task", metavar="NAME", help="Only jobs that were enqueued for this task."),
        click.option("--tag", metavar="TEXT", help="Only jobs with this tag."),
        click.option("--state", type=click.Choice([state.value for state in State]), help="Only jobs in this state."),
        click.option("--queue", metavar="QUEUE", type=ONE_QUEUE, help="Only jobs of this queue."),
    ):  # fmt: skip
        function = option(function)
    return function
