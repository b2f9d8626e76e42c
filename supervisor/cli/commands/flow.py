"""jobsctl flow: jobs that come after others."""

from __future__ import annotations

import json
import sys
from typing import IO, TYPE_CHECKING, Any

import click

from supervisor.cli.group import group
from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

FLOW = click.IntRange(min=1)


@group("flow")
def command() -> None:
    """Start flows of jobs, look at them and change them."""


@jobsctl_command(
    name="start",
    examples=[
        "jobsctl flow start import.json",
        """echo '{"steps": [{"name": "a", "queue": "q"}, {"queue": "q", "after": ["a"]}]}' | jobsctl flow start -""",
    ],
)
@click.argument("file", type=click.File("rb"))
@click.option("--open", "is_open", is_flag=True, help="More will be added: it does not end before jobsctl flow close.")
@pass_invocation
def start(invocation: Invocation, file: IO[bytes], *, is_open: bool) -> None:
    """Start the flow that FILE describes as JSON, all or nothing; print its id. - is stdin."""
    from supervisor.cli.render import put_json, put_line

    given = _read(file)
    with invocation.client() as client:
        flow_id = client.flows.start(given, open=is_open)
    if invocation.json:
        put_json({"id": flow_id, "state": "running"})
    else:
        put_line(str(flow_id))


@jobsctl_command(name="add", examples=["jobsctl flow add 12 more.json"])
@click.argument("flow", type=FLOW)
@click.argument("file", type=click.File("rb"))
@pass_invocation
def add(invocation: Invocation, flow: int, file: IO[bytes]) -> None:
    """Add the steps of FILE to a flow that has not ended; they may come after those that it has."""
    from supervisor.cli.render import put_json, put_line

    given = _read(file)
    if set(given) != {"steps"}:
        from supervisor.errors import InvalidFlow

        raise InvalidFlow(f"{file.name}: what is added to a flow is steps, and nothing else", hint='{"steps": [...]}')
    with invocation.client() as client:
        ids = client.flows.add(flow, given)
    if invocation.json:
        put_json({"id": flow, "ids": ids})
    else:
        put_line(f"added to flow {flow}")


def _read(file: IO[bytes]) -> dict[str, Any]:
    from supervisor.errors import InvalidFlow

    try:
        given = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise InvalidFlow(f"{file.name}: no JSON: {error}") from None
    if not isinstance(given, dict):
        raise InvalidFlow(f"{file.name}: a flow is an object with steps")
    return given


@jobsctl_command(name="list", examples=["jobsctl flow list --state running", "jobsctl flow list --json | jq .id"])
@click.option(
    "--state", type=click.Choice(["running", "cancelling", "completed", "dead", "cancelled"]), help="Only those in it."
)
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=50, show_default=True, help="0: all.")
@pass_invocation
def show_all(invocation: Invocation, state: str | None, limit: int) -> None:
    """List flows, the newest first.

    Tab-separated, the columns are: id, name, state, jobs, unfinished, dead, cancelled, skipped, created, finished.
    """
    from itertools import islice

    from supervisor.cli.render import Column, put_rows

    columns = [
        Column("id", "id", "number"), Column("name", "name", "prose"), Column("state", "state", "state"),
        Column("all", "jobs", "number"), Column("unfinished", "left", "number"), Column("dead", "dead", "number"),
        Column("cancelled", "cancelled", "number", wide=True), Column("skipped", "skipped", "number", wide=True),
        Column("created_at", "created (UTC)", "instant"), Column("finished_at", "finished (UTC)", "instant"),
    ]  # fmt: skip
    with invocation.client() as client:
        found = list(islice(client.flows.list(state=state), limit or None))
    rows = found if invocation.json else [{**flow, **flow["jobs"]} for flow in found]
    put_rows(rows, columns, as_json=invocation.json)


@jobsctl_command(name="show", examples=["jobsctl flow show 12", "jobsctl flow show 12 --json | jq .steps"])
@click.argument("flow", type=FLOW)
@pass_invocation
def show_one(invocation: Invocation, flow: int) -> None:
    """Show a flow as a tree: each step below one that it comes after, with its state and times.

    Where stdout is no terminal: a line for each step, with tabs between id, name, queue, state, after, started and
    finished.
    """
    from supervisor.cli.render import put_json

    with invocation.client() as client:
        found = client.flows.show(flow)
    if invocation.json:
        put_json(found)
    else:
        _put(found)


def _put(found: Mapping[str, Any]) -> None:
    from supervisor.cli.render import Column, put_rows, put_tree

    if sys.stdout.isatty():
        put_tree(list(_tree(found)))
        return
    columns = [Column(name, name) for name in ("id", "name", "queue", "state", "after", "started_at", "finished_at")]
    put_rows([{**step, "after": ",".join(map(str, step["after"]))} for step in found["steps"]], columns, as_json=False)


def _tree(found: Mapping[str, Any]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Every step once, signals beside the steps of their flow."""
    jobs = found["jobs"]
    done = f"{jobs['all'] - jobs['unfinished']} of {jobs['all']} done"
    yield 0, _line(f"flow {found['id']}", found["name"] or "", found, done)
    above = _above(found["steps"])
    below: dict[int, list[Mapping[str, Any]]] = {}
    for step in found["steps"]:
        below.setdefault(above[step["id"]], []).append(step)
    names = {step["id"]: step["name"] or f"{step['kind']} {step['id']}" for step in found["steps"]}
    waiting = [(1, step) for step in reversed(below.get(found["id"], []))]
    while waiting:
        depth, step = waiting.pop()
        told = _why(step) or _after(step, above[step["id"]], names)
        known_as = f"{step['kind']} {step['id']}" if step["name"] else ""
        yield depth, _line(names[step["id"]], ", ".join(filter(None, (step["queue"], known_as))), step, told)
        waiting += [(depth + 1, each) for each in reversed(below.get(step["id"], []))]
    if found["more"]:
        yield 1, [("... and more", "dim")]


def _why(step: Mapping[str, Any]) -> str | None:
    """What is told of how a step ended: of a dead one its error says more than that it may not run again."""
    dead = step["state"] == "dead"
    found: str | None = (step["error"] or step["reason"]) if dead else step["reason"]
    return f"an earlier attempt: {step['error']}" if found is None and step["error"] else found


def _after(step: Mapping[str, Any], above: int, names: Mapping[int, str]) -> str:
    others = [names[parent] for parent in step["after"] if parent in names and parent != above]
    word = "also after" if above in step["after"] else "after"
    return f"{word} {', '.join(others)}" if others else ""


def _above(steps: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Below what each step is drawn: the last of its own flow that it comes after, else that flow.

    A flow in a flow comes after what its first steps come after. Below a flow stand its own steps alone: what comes
    after it is drawn beside it.
    """
    of_flow = {each["id"]: each["flow"] for each in steps if each["kind"] != "signal"}
    flows = {each["id"] for each in steps if each["kind"] == "flow"}
    inside: dict[int, list[int]] = {}
    for each in steps:
        inside.setdefault(each["flow"], []).extend(each["after"])
    found: dict[int, int] = {}
    for each in steps:
        after = inside.get(each["id"], []) if each["id"] in flows else each["after"]
        around = [parent for parent in after if of_flow.get(parent) == each["flow"]]
        last = max(around, default=None)
        found[each["id"]] = each["flow"] if last is None else found[last] if last in flows else last
    return found


def _line(called: str, what: str, times: Mapping[str, Any], told: str) -> list[tuple[str, str]]:
    begun, ended = times.get("started_at") or times.get("created_at"), times.get("finished_at")
    when = f"{ended[:19]}, {_took(begun, ended)}" if begun and ended else (ended or begun or "")[:19]
    parts = [(called, "bold"), (what, "dim"), (times["state"], "state"), (when.replace("T", " "), "dim"), (told, "dim")]
    return [part for part in parts if part[0]]


def _took(begun: str, ended: str) -> str:
    from datetime import datetime

    from supervisor.cli.render import duration

    took = datetime.fromisoformat(ended) - datetime.fromisoformat(begun)
    return f"took {duration(max(took.total_seconds(), 0.0))}"


@jobsctl_command(name="signal", examples=["""jobsctl flow signal 12 approved '{"by": "ann"}'"""])
@click.argument("flow", type=FLOW)
@click.argument("name", metavar="NAME")
@click.argument("payload", required=False)
@pass_invocation
def signal(invocation: Invocation, flow: int, name: str, payload: str | None) -> None:
    """Send a signal to a flow: steps that wait for it go on, and those that are added later find it there."""
    from supervisor.cli.render import note, put_json, put_line
    from supervisor.wire.payload import parse

    given = None if payload is None else parse(payload)
    with invocation.client() as client:
        found = client.flows.send_signal(flow, name, given)
    if invocation.json:
        put_json(found)
        return
    put_line("it had come before; nothing was changed" if found["repeated"] else "sent")
    if not found["awaited"]:
        meant = f"; did you mean {found['meant']}?" if found["meant"] else ""
        note(f"no step of flow {flow} waits for signal {name}: it is kept for steps that are added later{meant}")


@jobsctl_command(name="close", examples=["jobsctl flow close 12"])
@click.argument("flow", type=FLOW)
@pass_invocation
def close(invocation: Invocation, flow: int) -> None:
    """Let an open flow end once its steps have: nothing more is added."""
    _said(invocation, invocation.ask("flow_close", flow=flow))


@jobsctl_command(name="cancel", examples=["jobsctl flow cancel 12"])
@click.argument("flow", type=FLOW)
@pass_invocation
def cancel(invocation: Invocation, flow: int) -> None:
    """Cancel all of a flow that has not ended; what runs is interrupted."""
    _said(invocation, invocation.ask("flow_cancel", flow=flow))


@jobsctl_command(name="retry", examples=["jobsctl flow retry 12", "jobsctl flow retry 12 --from parse"])
@click.argument("flow", type=FLOW)
@click.option("--from", "step", metavar="STEP", help="This step, and all that comes after it, whatever their states.")
@pass_invocation
def retry(invocation: Invocation, flow: int, step: str | None) -> None:
    """Run the dead and the cancelled steps of a flow again, each after those that it comes after."""
    from supervisor.cli.render import put_json, put_line

    found = invocation.ask("flow_retry", flow=flow, step=step)
    if invocation.json:
        put_json(found)
    else:
        put_line(f"{found['count']} {'step runs' if found['count'] == 1 else 'steps run'} again")


def _said(invocation: Invocation, found: Mapping[str, Any]) -> None:
    from supervisor.cli.render import put_json, put_line

    if invocation.json:
        put_json(dict(found))
    else:
        put_line(found["state"])


for each in (start, add, show_all, show_one, signal, close, cancel, retry):
    command.add_command(each)
