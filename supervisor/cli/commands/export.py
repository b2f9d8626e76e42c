"""jobsctl export: whole jobs as JSON lines or CSV, for whoever works on them elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Any

import click

from supervisor.cli.invocation import Invocation, jobsctl_command, pass_invocation
from supervisor.cli.parameters import search_options
from supervisor.job import State

if TYPE_CHECKING:
    from supervisor.cli.progress import Tell
    from supervisor.store.archive import Archive
    from supervisor.store.history import Search

COLUMNS = (
    "id", "queue", "state", "priority", "tags", "attempt", "failures", "crashes", "interruptions", "enqueued_at",
    "due_at", "started_at", "finished_at", "reason", "error", "payload", "result", "key",
)  # fmt: skip
"""What is exported of a job, in this order; columns are added at the end only."""

TOLD_EVERY = 100


@jobsctl_command(
    examples=[
        "jobsctl export --queue emails --state dead --format csv -o dead.csv",
        "jobsctl export --key acme -o acme.jsonl",
        "jobsctl export --since 1d | jq -c 'select(.failures > 0)'",
    ]
)
@search_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv"]),
    default="jsonl",
    show_default=True,
    help="A JSON object a line, or comma-separated values with a heading.",
)
@click.option("-o", "--output", metavar="FILE", help="Write this file, which gets its name when it is whole.")
@pass_invocation
def command(
    invocation: Invocation, /, queue: str | None, state: str | None, form: str, output: str | None, **wanted: Any
) -> None:  # fmt: skip
    """Write jobs with payload and result, newest first, to standard output or a file.

    They are read from the database in short steps, in memory that does not grow. What is redacted is hidden here as
    well. In CSV, tags, payload and result are JSON. With --output, prints how many jobs were written; an old file of
    that name is replaced.
    """
    from supervisor.cli.render import put_json, put_line
    from supervisor.cli.searching import as_search
    from supervisor.errors import NoDatabase

    if queue is not None:
        invocation.must_exist(queue)
    if invocation.json and output is None and form == "csv":
        raise click.UsageError("--json prints JSON on stdout; name a file for the CSV with --output")
    chosen = State(state) if state else None
    count = 0
    with _target(output) as file, _told(output) as told:
        try:
            with invocation.reader() as reader:
                count = _write(reader, as_search(**wanted), queue, chosen, form, file, told)
        except NoDatabase:
            count = _write_rows(iter(()), form, file, told)
    if output is not None:
        if invocation.json:
            put_json({"file": os.path.abspath(output), "count": count, "format": form})
        else:
            put_line(str(count))


def _told(output: str | None) -> AbstractContextManager[Tell]:
    """Where to say how many were written: nowhere, if they are seen on the terminal themselves."""
    import sys

    from supervisor.cli.progress import counting, silent

    if output is None and sys.stdout.isatty():
        return nullcontext(silent)
    return counting("{} jobs written")


def _write(
    reader: Archive, search: Search, queue: str | None, state: State | None, form: str, file: IO[str], told: Tell
) -> int:  # fmt: skip
    return _write_rows(_rows(reader, search, queue, state), form, file, told)


def _rows(reader: Archive, search: Search, queue: str | None, state: State | None) -> Iterator[dict[str, Any]]:
    """Whole jobs, a few at a time."""
    from itertools import islice

    from supervisor.store.archive import BODIES

    found = reader.search(search, queue=queue, state=state)
    while page := list(islice(found, BODIES)):
        bodies = reader.bodies([job["id"] for job in page])
        for job in page:
            if job["id"] in bodies:  # else it was deleted between the two looks
                yield {name: job[name] for name in COLUMNS} | {"payload": bodies[job["id"]]}


def _write_rows(rows: Iterator[dict[str, Any]], form: str, file: IO[str], told: Tell) -> int:
    import csv
    import json

    writer = csv.writer(file) if form == "csv" else None
    if writer:
        writer.writerow(COLUMNS)
    count = 0
    for count, row in enumerate(rows, 1):
        if writer:
            writer.writerow([_cell(name, row[name]) for name in COLUMNS])
        else:
            file.write(json.dumps(row) + "\n")
        if count % TOLD_EVERY == 0:
            told(count)
    return count


def _cell(name: str, value: Any) -> Any:
    """A value as CSV has it; what has parts is JSON."""
    import json

    if value is None:
        return ""
    return json.dumps(value) if name in ("tags", "payload", "result") else value


@contextmanager
def _target(output: str | None) -> Iterator[IO[str]]:
    """Standard output; or a file that gets its name when the block has ended well, and is gone if it has not.

    Links are followed; what is no file, such as a pipe or a device, is written to as it is.
    """
    import sys

    if output is None:
        yield sys.stdout
        return
    target = os.path.realpath(output)
    if os.path.isdir(target):
        raise click.UsageError(f"{target} is a directory")
    if os.path.exists(target) and not os.path.isfile(target):
        with open(target, "w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    draft = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise click.UsageError(f"{target}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise
