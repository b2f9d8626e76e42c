"""jobsctl cron: schedules, which enqueue jobs at times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from supervisor.cli.group import group
from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import DURATION, INSTANT, QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supervisor.config.spec import Schedule
    from supervisor.policy.schedule import Plan
    from supervisor.shapes import ScheduleStatus

COUNT_MAX = 1_000
STATES = {"fired": "ran", "waiting": "waits"}


@group("cron")
def command() -> None:
    """Look at schedules and change them."""


@jobsctl_command(name="list", examples=["jobsctl cron list", "jobsctl cron list --json | jq -r .next_at"])
@pass_invocation
def show_all(invocation: Invocation) -> None:
    """List all schedules, with their next and their last run.

    Tab-separated, the columns are: name, queue, when, timezone, paused, next, last, outcome, fired, skipped, missed,
    failed, origin.
    """
    from supervisor.cli.render import Column, put_rows

    columns = [
        Column("name", "name"), Column("queue", "queue", wide=True), Column("when", "when"),
        Column("timezone", "zone", wide=True), Column("paused", "paused"), Column("next_at", "next (UTC)", "instant"),
        Column("last_at", "last (UTC)", "instant"), Column("outcome", "outcome", "state"),
        Column("fired", "fired", "number", wide=True), Column("skipped", "skipped", "number", wide=True),
        Column("missed", "missed", "number", wide=True), Column("failed", "failed", "number", wide=True),
        Column("origin", "origin", wide=True),
    ]  # fmt: skip
    with invocation.client() as client:
        found = client.schedules()
    rows = found if invocation.json else [{**row, "when": _when(row)} for row in found]
    put_rows(rows, columns, as_json=invocation.json)


def _when(row: ScheduleStatus) -> str | None:
    from supervisor.policy.duration import show

    if row["every_s"] is not None:
        return f"every {show(round(row['every_s'] * 1000))}"
    return row["cron"]


@jobsctl_command(name="show", examples=["jobsctl cron show nightly"])
@click.argument("name", metavar="NAME")
@pass_invocation
def show_one(invocation: Invocation, name: str) -> None:
    """Show all about a schedule, and what was decided about its last due times."""
    from supervisor.cli import render

    found = invocation.ask("cron_show", name=name)
    if invocation.json:
        render.put_json(found)
        return
    render.put_fields({key: value for key, value in found.items() if key not in ("recent", "explanation")})
    for each in found["recent"]:
        job = "" if each["job_id"] is None else f", job {each['job_id']}"
        outcome = STATES.get(each["outcome"], each["outcome"])
        render.put_line(f"due {each['due_at']}: {outcome}{job}, decided {each['at']}")


@jobsctl_command(name="explain", examples=["jobsctl cron explain nightly"])
@click.argument("name", metavar="NAME")
@pass_invocation
def explain(invocation: Invocation, name: str) -> None:
    """Say when a schedule runs next, why, and what happened last."""
    from supervisor.cli import render

    found = invocation.ask("cron_show", name=name)
    if invocation.json:
        render.put_json({"name": found["name"], "explanation": found["explanation"]})
    else:
        render.put_line(found["explanation"])


@jobsctl_command(
    name="add",
    examples=[
        "jobsctl cron add nightly reports --cron '30 2 * * *' --timezone Europe/Berlin",
        'jobsctl cron add poll feeds \'{"url": "https://example.org/"}\' --every 15m --jitter 1m --overlap skip',
    ],
)
@click.argument("name", metavar="NAME")
@click.argument("queue", type=QUEUE)
@click.argument("payload", required=False)
@click.option("--cron", metavar="EXPR", help="When: five fields, six with seconds in front, or an alias as @daily.")
@click.option("--every", metavar="DURATION", type=DURATION, help="When: at this interval.")
@click.option("--timezone", metavar="ZONE", help="The zone whose clock --cron means; UTC if it is not given.")
@click.option("--jitter", metavar="DURATION", type=DURATION, help="Each run is later by up to this.")
@click.option("--start", metavar="TIME", type=INSTANT, help="No run is due before; --every counts from here.")
@click.option("--end", metavar="TIME", type=INSTANT, help="No run is due after.")
@click.option("--missed", type=click.Choice(["skip", "once", "all"]), help="What becomes of runs that were missed.")
@click.option("--missed-within", metavar="DURATION", type=DURATION, help="How late a missed run may be made up for.")
@click.option("--missed-max", metavar="N", type=click.IntRange(min=1), help="How many may be made up for.")
@click.option(
    "--overlap", type=click.Choice(["allow", "skip", "queue"]), help="While the job before has not ended: what to do."
)
@click.option("--task", metavar="NAME", help="Which task of the queue runs its jobs, where it has tasks.")
@click.option("--priority", metavar="N", type=int, help="Priority of its jobs.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A tag of its jobs; may be repeated.")
@pass_invocation
def add(invocation: Invocation, /, name: str, queue: str, payload: str | None, **given: Any) -> None:
    """Add a schedule, or change one that was added; PAYLOAD is JSON.

    It is kept in the database, over restarts. A schedule that the configuration names cannot be
    changed here.
    """
    from supervisor.cli import render

    values = {"queue": queue, **_values(given)}
    if payload is not None:
        values["payload"] = _json(payload)
    found = invocation.ask("cron_add", name=name, schedule=values)
    if invocation.json:
        render.put_json(found)
    else:
        render.put_line(found["explanation"])


def _values(given: dict[str, Any]) -> dict[str, Any]:
    """The options as the keys of a schedule have them; only what was given."""
    from supervisor.config.schedule_keys import show_instant
    from supervisor.policy.duration import show

    values = {key: value for key, value in given.items() if value not in (None, ())}
    for key in ("every", "jitter", "missed_within"):
        if key in values:
            values[key] = show(values[key])
    for key in ("start", "end"):
        if key in values:
            values[key] = show_instant(values[key])
    if "tags" in values:
        values["tags"] = list(values["tags"])
    return values


def _json(written: str) -> Any:
    import json

    try:
        return json.loads(written)
    except ValueError as error:
        raise click.UsageError(f"PAYLOAD is not JSON: {error}") from None


@jobsctl_command(name="remove", examples=["jobsctl cron remove nightly"])
@click.argument("name", metavar="NAME")
@pass_invocation
def remove(invocation: Invocation, name: str) -> None:
    """Remove a schedule that was added.

    Its jobs stay. One that the configuration names is removed there.
    """
    from supervisor.cli import render

    reply = invocation.ask("cron_remove", name=name)
    if invocation.json:
        render.put_json(reply)


@jobsctl_command(name="pause", examples=["jobsctl cron pause nightly"])
@click.argument("name", metavar="NAME")
@pass_invocation
def pause(invocation: Invocation, name: str) -> None:
    """Let a schedule rest, over restarts and reloads, until jobsctl cron resume."""
    _switch(invocation, "cron_pause", name)


@jobsctl_command(name="resume", examples=["jobsctl cron resume nightly"])
@click.argument("name", metavar="NAME")
@pass_invocation
def resume(invocation: Invocation, name: str) -> None:
    """Let a schedule go on from now.

    What was due while it rested is not made up for.
    """
    _switch(invocation, "cron_resume", name)


def _switch(invocation: Invocation, op: str, name: str) -> None:
    from supervisor.cli import render

    found = invocation.ask(op, name=name)
    if invocation.json:
        render.put_json(found)
    else:
        render.put_line(found["explanation"])


@jobsctl_command(name="run", examples=["jobsctl cron run nightly"])
@click.argument("name", metavar="NAME")
@pass_invocation
def run(invocation: Invocation, name: str) -> None:
    """Enqueue a schedule's job now, once, and print its id.

    The timetable stays as it is; a schedule that is paused can be run, too.
    """
    from supervisor.cli import render

    reply = invocation.ask("cron_run", name=name)
    if invocation.json:
        render.put_json(reply)
    else:
        render.put_line(str(reply["id"]))


@jobsctl_command(
    name="preview",
    examples=[
        "jobsctl cron preview nightly --count 3",
        "jobsctl cron preview '30 2 * * MON-FRI' --timezone Europe/Berlin",
    ],
)
@click.argument("what", metavar="NAME|EXPR")
@click.option("--count", metavar="N", type=click.IntRange(1, COUNT_MAX), default=10, show_default=True,
              help="How many due times.")  # fmt: skip
@click.option("--timezone", metavar="ZONE", help="The zone whose clock EXPR means; UTC if it is not given.")
@click.option("--after", metavar="TIME", type=INSTANT, help="Begin later than this; now if it is not given.")
@pass_invocation
def preview(invocation: Invocation, what: str, count: int, timezone: str | None, after: int | None) -> None:
    """Print the next due times of a schedule, or of a cron expression or an interval such as 15m.

    Tab-separated, the columns are: due (UTC), on the clock of the zone, fires (later than due by the jitter).
    """
    from supervisor.cli.render import Column, put_rows
    from supervisor.unix.clock import wall_ms

    plan, zone_name = _plan(invocation, what, timezone)
    columns = [Column("due_at", "due (UTC)"), Column("local", "on its clock"), Column("fires_at", "fires (UTC)")]
    times = _times(plan, zone_name, wall_ms() if after is None else after, count)
    put_rows(times, columns, as_json=invocation.json)


def _times(plan: Plan, zone_name: str, after_ms: int, count: int) -> Iterator[dict[str, Any]]:
    from supervisor.config.schedule_keys import show_instant
    from supervisor.config.zones import zone
    from supervisor.policy.schedule_words import when

    place = zone(zone_name)
    for _ in range(count):
        due_ms = plan.after(after_ms)
        if due_ms is None:
            return
        fires = show_instant(plan.fires_ms(due_ms))
        yield {"due_at": show_instant(due_ms), "local": when(due_ms, place), "timezone": zone_name, "fires_at": fires}
        after_ms = due_ms


def _plan(invocation: Invocation, what: str, timezone: str | None) -> tuple[Plan, str]:
    """The plan of an expression, which has blanks in it or begins with @, of a schedule, or of an interval."""
    from supervisor.config.schedules import plan_of

    if " " in what.strip() or what.startswith("@"):
        schedule = _checked({"cron": what} | ({"timezone": timezone} if timezone else {}))
    elif timezone is not None:
        raise click.UsageError("--timezone goes with an expression; a schedule has its own")
    else:
        schedule = _configured(invocation, what) or _interval(what) or _added(invocation, what)
    return plan_of(schedule), schedule.timezone


def _checked(values: dict[str, Any]) -> Schedule:
    from supervisor.config.schedules import from_values

    try:
        return from_values("preview", {"queue": "preview", **values}, None)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _configured(invocation: Invocation, name: str) -> Schedule | None:
    """A schedule of the configuration; None where there is none."""
    from supervisor.errors import ConfigError

    try:
        return invocation.spec().schedules.get(name)
    except ConfigError:
        return None  # the environment may name the socket of a daemon that knows it


def _interval(what: str) -> Schedule | None:
    """An interval, such as 15m; None if it is none."""
    from supervisor.policy.duration import parse_ms

    try:
        parse_ms(what)
    except ValueError:
        return None
    return _checked({"every": what})


def _added(invocation: Invocation, name: str) -> Schedule:
    """A schedule that was added.

    Raises:
        UnknownSchedule: there is none of that name.
    """
    return _from_shown(invocation.ask("cron_show", name=name))


def _from_shown(shown: dict[str, Any]) -> Schedule:
    from supervisor.config.spec import Schedule
    from supervisor.policy.options import instant_ms

    def ms(key: str) -> int | None:
        return None if shown[key] is None else round(shown[key] * 1000)

    def instant(key: str) -> int | None:
        return None if shown[key] is None else instant_ms(shown[key])

    return Schedule(
        name=shown["name"], queue=shown["queue"] or "", cron=shown["cron"], timezone=shown["timezone"] or "UTC",
        every_ms=ms("every_s"), jitter_ms=ms("jitter_s") or 0, start_ms=instant("start_at"), end_ms=instant("end_at"),
    )  # fmt: skip


for each in (show_all, show_one, explain, add, remove, pause, resume, run, preview):
    command.add_command(each)
