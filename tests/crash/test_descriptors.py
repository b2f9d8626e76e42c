"""Who has the database open: the keeper alone. What a worker has open: its own slot, and nothing of anyone else."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.campaign import Campaign, size
from tests.support.field import Field, attempt, kill, payloads
from tests.support.ledger import read_database
from tests.support.waiting import gone, until

ALLOWED = Counter(
    {
        "null": 1,  # stdin
        "pipe": 4,  # stdout and stderr to the foreman, its ready pipe, its foreman's bell
        "socket": 3,  # its slot's end, and the pair that signals wake it by
        "slot": 1,
        "slot/memory": 1,
        "slot/stacks": 1,
    }
)


def kind_of(link: str, slot: str) -> str:
    """What a descriptor is, in the words of the allow-list."""
    if link.startswith(("socket:", "pipe:")):
        return link.partition(":")[0]
    if link == "/dev/null":
        return "null"
    return link.replace(slot, "slot") if link == slot or link.startswith(slot + "/") else link


def strangers(listed: list[list[Any]]) -> list[str]:
    """How a worker's descriptors differ from the allow-list. The slot it sits on is whichever it has open."""
    slot = next((link for _, link in listed if Path(link).parent.name == "slots"), "no slot")
    kinds = Counter(kind_of(link, slot) for _, link in listed if not link.endswith("/fd"))
    more = [f"{kind} is open" for kind in (kinds - ALLOWED).elements()]
    return more + [f"{kind} is missing" for kind in (ALLOWED - kinds).elements()]


def look_at_each_spawn(path: Path, spawns: int, handler: str) -> tuple[int, list[str]]:
    """One job per worker; how many workers there were, and what was wrong with what they had open."""
    with Field(path, {"q": {"workers": 4, "recycle_jobs": 1, "handler": handler}}) as field:
        field.add([{"do": "descriptors"}] * spawns)
        field.drain()
        assert field.stop() == 0
        results = [job.result for job in read_database(field.database).jobs.values()]
        pids = {run.pid for runs in field.ledger.runs().values() for run in runs}
    return len(pids), [problem for result in results for problem in strangers(json.loads(result or "[]"))]


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_a_worker_has_open_what_it_needs_and_no_more(tmp_path: Path, campaign: Campaign) -> None:
    for number, rounds in enumerate(campaign.batches(short=100, full=1_000, batch=500)):
        workers, problems = look_at_each_spawn(tmp_path / str(number), rounds, "ledgered:run")
        assert problems == []
        assert workers == rounds
        campaign.passed(rounds)


def test_control_an_import_that_leaves_a_file_open_is_found(tmp_path: Path) -> None:
    _, problems = look_at_each_spawn(tmp_path, 8, "leaky:run")
    assert set(problems) == {"/etc/hostname is open"}


def ours(field: Field) -> dict[str, int]:
    """The pids of the lasting processes."""
    return {role: pid for role in ("master", "keeper", "foreman") for pid in field.pids(role)}


def open_by(pids: dict[str, int]) -> dict[str, int]:
    """How many descriptors each holds."""
    return {role: len(descriptors_of(pid)) for role, pid in pids.items()}


def kilobytes_of(pid: int) -> int:
    """What a process has in memory."""
    (line,) = (text for text in Path(f"/proc/{pid}/status").read_text().splitlines() if text.startswith("VmRSS"))
    return int(line.split()[1])


def test_nothing_accumulates_over_many_workers(tmp_path: Path) -> None:
    """Hundreds of workers later the lasting processes hold as many descriptors as before, and hardly more memory."""
    with Field(tmp_path, {"q": {"workers": 4, "recycle_jobs": 1}}) as field:
        pids = ours(field)
        before = open_by(pids)
        field.add([{"do": "nothing"}] * 100)
        field.drain()
        used = {role: kilobytes_of(pid) for role, pid in pids.items()}
        field.add([{"do": "nothing"}] * size(200, 2_000))
        field.drain()
        until(lambda: open_by(pids) == before, 10, "as many descriptors as at the start")
        assert ours(field) == pids
        assert max(kilobytes_of(pid) - used[role] for role, pid in pids.items()) < 5_000


def holders(field: Field) -> dict[int, set[str]]:
    """Who, of all that was started for this daemon, has the database or its WAL open or mapped."""
    wanted = {str(field.database) + end for end in ("", "-wal", "-shm")}
    found: dict[int, set[str]] = {}
    for pid in field.survivors():
        names = {attempt(lambda fd=fd: os.readlink(fd)) for fd in attempt(lambda p=pid: descriptors_of(p)) or []}
        names |= {line.split()[-1] for line in (attempt(Path(f"/proc/{pid}/maps").read_text) or "").splitlines()}
        if names & wanted:
            found[pid] = {str(name) for name in names & wanted}
    return found


def descriptors_of(pid: int) -> list[str]:
    """Paths of a process's descriptors in /proc."""
    return [f"/proc/{pid}/fd/{name}" for name in os.listdir(f"/proc/{pid}/fd")]


def test_only_the_keeper_has_the_database_open(tmp_path: Path) -> None:
    """While jobs run, and again after the keeper was killed."""
    with Field(tmp_path, {"q": {"workers": 3}, "c": {"command": ["sleep", "0.05"], "workers": 1}}) as field:
        field.load("raw", "--payloads", payloads((1, {"do": "rest", "ms": 5})), "--group", 4, "--pause-ms", 10)
        field.load("raw", "--queue", "c", "--group", 1, "--pause-ms", 60)
        for _ in range(3):
            (keeper,) = until(lambda: attempt(lambda: field.pids("keeper")), 20, "a keeper")
            for _ in range(5):
                field.under_load(5)
                held = holders(field)
                assert held.keys() == {keeper}
                assert str(field.database) in held[keeper]
            kill(keeper)
            gone(keeper)
            until(lambda dead=keeper: attempt(lambda: field.pids("keeper") not in ([], [dead])), 20, "another keeper")


def test_control_a_job_that_opens_the_database_is_found(tmp_path: Path) -> None:
    with Field(tmp_path, {"q": {"workers": 1}}) as field:
        fifo = tmp_path / "gate"
        os.mkfifo(fifo)
        field.add([{"do": "peek", "file": str(field.database), "until": str(fifo)}])
        run = field.at_work()
        until(lambda: run.pid in holders(field), 10, "the job's descriptor")
        assert len(holders(field)) == 2
