"""jobsctl status: the daemon and its queues, or everything about one job."""

from __future__ import annotations

from typing import Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import JOB_ID


@jobsctl_command(
    examples=["jobsctl status", "jobsctl status 42", "jobsctl status 42 --json | jq -r '.errors[-1].traceback'"]
)
@click.argument("job_id", metavar="[ID]", type=JOB_ID, required=False)
@pass_invocation
def command(invocation: Invocation, job_id: int | None) -> None:
    """Show all queues, or all about one job.

    Shows the daemon and the counts of every queue, or one job with every error it had. Without a daemon both are
    read from the database. Tab-separated, the columns are: queue, queued, running, scheduled, blocked, completed,
    dead, cancelled, age of the oldest queued job in seconds, workers, paused, circuit, reason.
    """
    if job_id is None:
        _show_overview(invocation, _overview(invocation))
    else:
        _show_job(invocation, find_job(invocation, job_id))


def find_job(invocation: Invocation, job_id: int) -> dict[str, Any]:
    """All about a job, from the daemon or from the file.

    Raises:
        UnknownJob: there is none of that id.
    """
    from supervisor.errors import NoDatabase, NotRunning, UnknownJob

    try:
        return invocation.ask_at_once("job", job=job_id)
    except NotRunning:
        pass
    try:
        with invocation.reader() as reader:
            found = reader.job(job_id)
            if found is None:
                raise reader.unknown_job(job_id)
            return found
    except NoDatabase:
        raise UnknownJob(f"there is no job {job_id}", hint="no job was ever enqueued here") from None


def _overview(invocation: Invocation) -> dict[str, Any]:
    from supervisor.cli.overview import absent, outboxes_at_rest, overview
    from supervisor.errors import NoDatabase, NotRunning
    from supervisor.store.breaker_view import shown
    from supervisor.unix.clock import wall_ms

    try:
        return invocation.ask_at_once("status")
    except NotRunning:
        pass
    spec, now_ms = invocation.spec(), wall_ms()
    queues = spec.queues

    def spoken_of(name: str) -> bool:
        return name in queues or spec.queue(name) is not None

    try:
        with invocation.reader() as reader:
            known = reader.breakers()
            breakers = {name: shown(queue.breaker, known.get(name), now_ms) for name, queue in queues.items()}
            found = overview(
                queues, reader.counts(), reader.oldest_queued_ms(), reader.paused(), now_ms, breakers, spoken_of
            )
            schedules = reader.schedules_overview()
    except NoDatabase:
        breakers = {name: shown(queue.breaker, None, now_ms) for name, queue in queues.items()}
        schedules = {"count": 0, "paused": 0, "next": None, "next_at": None}
        found = overview(queues, {}, {}, (), 0, breakers, spoken_of)
    holder = invocation.holder()
    daemon = absent(holder.pid if holder else None)
    outboxes = outboxes_at_rest(spec.outbox)
    return {"daemon": daemon, "queues": found, "schedules": schedules, "alerts": None, "outboxes": outboxes}


def _show_overview(invocation: Invocation, found: dict[str, Any]) -> None:
    import sys

    from supervisor.cli import render

    if invocation.json:
        render.put_json(found)
        return
    daemon = found["daemon"]
    if sys.stdout.isatty():
        render.put_line(_sentence(daemon))
    elif daemon["version"] is None:
        render.note(_sentence(daemon))
    for trouble in _troubles(found):
        render.note(trouble)
    some_blocked = any(queue["blocked"] for queue in found["queues"].values())
    columns = [
        render.Column("queue", "queue"),
        *(render.Column(state, state, "number") for state in ("queued", "running", "scheduled")),
        render.Column("blocked", "blocked", "number", wide=not some_blocked),
        *(render.Column(state, state, "number") for state in ("completed", "dead")),
        render.Column("cancelled", "cancelled", "number", wide=True),
        render.Column("oldest_queued_s", "oldest", "seconds", wide=True),
        render.Column("workers", "workers", "number"),
        render.Column("paused", "paused"),
        render.Column("circuit", "circuit", "state", wide=True),
        render.Column("reason", "reason", "prose", wide=True),
    ]
    render.put_rows(({"queue": name, **queue} for name, queue in found["queues"].items()), columns, as_json=False)
    if sys.stdout.isatty():
        _put_remarks(found)


def _troubles(found: dict[str, Any]) -> list[str]:
    """What keeps the daemon as a whole from its work."""
    daemon, alerts = found["daemon"], found.get("alerts") or {}
    said = {
        "the last reload was refused": daemon.get("reload_error"),
        "the database cannot be written": daemon.get("store"),
        "alerts cannot be sent": alerts.get("error"),
    }
    outboxes: dict[str, Any] = found.get("outboxes") or {}
    said |= {f"outbox {name} does not move": outbox["error"] for name, outbox in outboxes.items()}
    refused = {name: outbox["refused"] for name, outbox in outboxes.items() if outbox["refused"]}
    told = [f"outbox {name} has refused {count} rows: jobsctl outbox list" for name, count in refused.items()]
    return [*(f"{what}: {why}" for what, why in said.items() if why), *told]


def _put_remarks(found: dict[str, Any]) -> None:
    """What a table has no room for: schedules, and why queues stand as they do."""
    from supervisor.cli import render

    schedules = found.get("schedules") or {"count": 0}
    if schedules["count"]:
        coming = f"; {schedules['next']} is due next, at {schedules['next_at']}" if schedules["next"] else ""
        render.put_line(f"schedules: {schedules['count']}{coming}")
    for name, queue in found["queues"].items():
        circuit = f"circuit {queue['circuit']}: " if queue.get("circuit") not in (None, "closed") else ""
        if queue.get("reason"):
            render.put_block(f"{name}: {circuit}{queue['reason']}", queue.get("detail") or "")
        if queue.get("scale_reason"):
            bounds = f"{queue['workers_min']} to {queue['workers_max']}"
            render.put_line(f"{name}: {queue['workers_target']} of {bounds} workers: {queue['scale_reason']}")
        batch = queue.get("batch") or {}
        if batch.get("due_in_s"):
            wait = render.seconds(batch["due_in_s"])
            render.put_line(f"{name}: {batch['gathered']} of {batch['size']} jobs of a batch, which waits up to {wait}")


def _sentence(daemon: dict[str, Any]) -> str:
    from supervisor.cli.render import seconds

    if not daemon["running"]:
        return "jobsupd is not running"
    if daemon["version"] is None:
        return f"jobsupd has the database, pid {daemon['pid']}, and does not answer yet"
    return f"jobsupd {daemon['version']} is running, pid {daemon['pid']}, for {seconds(daemon['uptime_s'])}"


MULTILINE = ("traceback", "last_output", "stacks")


def _show_job(invocation: Invocation, job: dict[str, Any]) -> None:
    from supervisor.cli import render

    if invocation.json:
        render.put_json(job)
        return
    render.put_fields({name: value for name, value in job.items() if name != "errors"})
    for error in job["errors"]:
        short = {name: value for name, value in error.items() if name not in MULTILINE}
        facts = ", ".join(
            f"{name} {render.plain(round(value, 3) if isinstance(value, float) else value)}"
            for name, value in short.items()
            if name not in ("attempt", "at", "kind", "message") and value is not None
        )
        head = f"attempt {error['attempt']} at {error['at']}: {error['kind']}: {error['message']}"
        render.put_block(head + (f" ({facts})" if facts else ""), "")
        for name in MULTILINE:
            if error.get(name):
                render.put_block(f"  {name}:", str(error[name]))
