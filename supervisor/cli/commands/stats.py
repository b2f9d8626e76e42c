"""jobsctl stats: counts, run times and waits of queues over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import INSTANT_OR_AGE, ONE_QUEUE

if TYPE_CHECKING:
    from supervisor.cli.render import Column
    from supervisor.store.archive import Period

HOUR_MS = 3_600_000
SPANS = {"minute": 1, "hour": 60}
SPARK_WIDTH = 20
SELDOM = ("crashed", "retried", "cancelled", "interrupted")
"""Counts that a terminal does without where they are nothing."""


@jobsctl_command(
    examples=[
        "jobsctl stats",
        "jobsctl stats emails --since 2h --by minute",
        "jobsctl stats --since 7d --by hour --json | jq 'select(.dead > 0)'",
    ]
)
@click.argument("queue", metavar="[QUEUE]", type=ONE_QUEUE, required=False)
@click.option("--since", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="From then on; an hour ago by default.")
@click.option("--until", metavar="TIME|AGE", type=INSTANT_OR_AGE, help="Until then; now by default.")
@click.option("--by", type=click.Choice(list(SPANS)), help="A row for each minute or hour, not one for each queue.")
@pass_invocation
def command(
    invocation: Invocation, queue: str | None, since: int | None, until: int | None, by: str | None
) -> None:  # fmt: skip
    """Show what the queues did: counts, and the percentiles of run times and waits.

    A wait is the time from when a job could have run (enqueued, due, or due again) to its start. Minutes are counted
    as they are; after two days there is one row an hour. Tab-separated, the columns are: queue, at, enqueued, started,
    completed, failed, crashed, retried, dead, cancelled, interrupted, run_p50_s, run_p95_s, run_p99_s, wait_p50_s,
    wait_p95_s, wait_p99_s.
    """
    from supervisor.errors import NoDatabase
    from supervisor.unix.clock import wall_ms

    if queue is not None:
        invocation.must_exist(queue)
    now_ms = wall_ms()
    until_ms = now_ms if until is None else until
    since_ms = until_ms - HOUR_MS if since is None else since
    if since_ms >= until_ms:
        raise click.UsageError("--since is not before --until")
    try:
        with invocation.reader() as reader:
            periods = list(reader.periods(queue, since_ms, until_ms))
    except NoDatabase:
        periods = []
    if by is None:
        _put(invocation, list(_in_all(periods, since_ms, until_ms)), with_spark=True)
    else:
        _put(invocation, list(_by(periods, SPANS[by])), with_spark=False)


def _in_all(periods: Iterable[Period], since_ms: int, until_ms: int) -> Iterator[dict[str, Any]]:
    """A row for each queue, with its completions over time."""
    from itertools import groupby

    from supervisor.policy.counting import COUNTS
    from supervisor.policy.figures import sparkline

    first, beyond = since_ms // 60_000, -(-until_ms // 60_000)
    for queue, group in groupby(periods, key=lambda period: period.queue):
        parts = list(group)
        line = [0] * (beyond - first)
        for part in parts:
            completed = part.figures.counts[COUNTS.index("completed")]
            line[min(max(part.minute - first, 0), len(line) - 1)] += completed
        yield _row(queue, first, beyond - first, parts) | {"spark": sparkline(line, SPARK_WIDTH)}


def _by(periods: Iterable[Period], span: int) -> Iterator[dict[str, Any]]:
    """A row for each queue and minute or hour; hours of which the minutes are not kept stay hours."""
    from itertools import groupby

    def key(period: Period) -> tuple[str, int]:
        return period.queue, period.minute // span * span

    for (queue, minute), group in groupby(periods, key=key):
        parts = list(group)
        yield _row(queue, minute, max(span, *(part.span for part in parts)), parts)


def _row(queue: str, minute: int, span: int, parts: list[Period]) -> dict[str, Any]:
    from supervisor.policy.counting import COUNTS
    from supervisor.policy.figures import percentiles_s
    from supervisor.store.reader import instant
    from supervisor.store.sqlite.measuring import summed

    total = summed([part.figures for part in parts])
    return {
        "queue": queue,
        "at": instant(minute * 60_000),
        "span_s": span * 60,
        **dict(zip(COUNTS, total.counts, strict=True)),
        **percentiles_s("run", total.run),
        **percentiles_s("wait", total.wait),
    }


def _put(invocation: Invocation, rows: list[dict[str, Any]], *, with_spark: bool) -> None:
    import sys

    from supervisor.cli.render import put_rows

    if invocation.json or not sys.stdout.isatty():
        told = [{name: value for name, value in row.items() if name != "spark"} for row in rows]
        put_rows(told, _columns(with_time=True), as_json=invocation.json)
        return
    never = {name for name in SELDOM if not any(row[name] for row in rows)}
    columns = _columns(with_time=not with_spark)
    put_rows(rows, [*(column for column in columns if column.key not in never), *_spark(with_spark)], as_json=False)


def _columns(*, with_time: bool) -> list[Column]:
    from supervisor.cli.render import Column
    from supervisor.policy.counting import COUNTS

    columns = [Column("queue", "queue"), *([Column("at", "from (UTC)", "instant")] if with_time else [])]
    columns += [Column(name, name, "number", wide=name == "enqueued") for name in COUNTS]
    columns += [
        Column(f"{what}_{share}_s", f"{what} {share}", "duration", wide=share == "p95")
        for what in ("run", "wait")
        for share in ("p50", "p95", "p99")
    ]
    return columns


def _spark(wanted: bool) -> list[Column]:
    from supervisor.cli.render import Column

    return [Column("spark", "completed over time", "prose", wide=True)] if wanted else []
