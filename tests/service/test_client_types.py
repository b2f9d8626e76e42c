"""What type checkers and editors are told of the clients, of a package that is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import assert_type

from supervisor.client import AsyncClient, Client
from supervisor.errors import JobsupError, Unconfirmed
from supervisor.shapes import Inserted, JobOptions, JobStatus, Overview
from supervisor.wire.buffer import Receipt

LATER: JobOptions = {"delay": timedelta(minutes=5), "tags": ["later"], "priority": 3}


def plain() -> None:
    with Client("etc/queues.toml", timeout="5s") as client:
        assert_type(client, Client[int])
        job_id = client.enqueue("q", {"a": 1}, at=datetime.now(UTC), backoff=["5s", 30])
        assert_type(job_id, int)
        assert_type(client.enqueue_many("q", [1], **LATER), list[int])
        assert_type(client.enqueue_each("q", [1], ttl="1h"), list[int | JobsupError])
        assert_type(client.insert("q", [{"payload": 1}]), Inserted)
        assert_type(client.status(), Overview)
        assert_type(client.status(job_id), JobStatus)
        queued: int = client.status()["queues"]["q"]["queued"]
        state: str = client.wait(job_id)["state"]
        print(queued, state, client.explain(job_id)["sentence"])
        client.edit(job_id, payload=None, untag=["x"])


def buffered() -> None:
    with Client(socket="s", buffered=True, flush_jobs=10) as client:
        receipt = client.enqueue("q", 1)
        assert_type(receipt, Receipt)
        assert_type(client.enqueue_many("q", [1]), list[Receipt])
        assert_type(receipt.id(), int)
        assert_type(client.status(receipt), JobStatus)


async def source() -> AsyncIterator[int]:
    yield 1


async def in_a_loop() -> int:
    async with AsyncClient() as client:
        assert_type(client, AsyncClient)
        try:
            job_id = await client.enqueue("q", 1, request_key="k", **LATER)
        except Unconfirmed as error:
            print(error.code, error.hint)
            raise
        assert_type(await client.enqueue_many("q", source()), list[int])
        async for outcome in client.enqueue_stream("q", source(), task="t"):
            assert_type(outcome, int | JobsupError)
        assert_type(await client.status(), Overview)
        assert_type(await client.status(job_id), JobStatus)
        assert_type(await client.wait(job_id, timeout=3), JobStatus)
        return job_id
"""

MISTAKES = [
    ('Client().enqueue("q", 1, dely="5m")', "call-arg"),
    ('Client().enqueue_many("q", [1], dely="5m")', "call-arg"),
    ('Client().enqueue("q", 1, priority="high")', "arg-type"),
    ("Client(flush_jobs=5)", "call-overload"),
    ('Client().status(1)["stat"]', "typeddict-item"),
    ('Client().wait("7")', "arg-type"),
    ('call = AsyncClient().enqueue("q", 1, tags=5)', "arg-type"),
    ("other = AsyncClient().edit(1, nonsense=2)", "call-arg"),
    ("AsyncClient(buffered=True)", "call-arg"),
]


def checked(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """What mypy says of a program that lies elsewhere and uses the installed package."""
    source = folder / "program.py"
    source.write_text(program)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(folder / "cache")]
    return subprocess.run([*command, str(source)], capture_output=True, text=True, timeout=110, cwd=folder, check=False)


def test_a_program_that_uses_the_clients_is_fully_typed(tmp_path: Path) -> None:
    done = checked(tmp_path, PROGRAM)
    assert (done.stdout, done.returncode) == ("", 0)


def test_mistakes_are_found_before_the_program_runs(tmp_path: Path) -> None:
    """Each on a line of its own, with what mypy is to call it."""
    head = ["from supervisor.client import AsyncClient, Client"]
    done = checked(tmp_path, "\n".join([*head, *(line for line, _ in MISTAKES)]) + "\n")
    found = {int(line.split(":")[1]): line.rpartition("[")[2].rstrip("]") for line in done.stdout.splitlines()
             if ": error:" in line}  # fmt: skip
    assert found == {number: code for number, (_, code) in enumerate(MISTAKES, 2)}, done.stdout


def test_the_package_says_that_it_is_typed() -> None:
    import supervisor

    (place,) = supervisor.__path__
    assert (Path(place) / "py.typed").is_file()
