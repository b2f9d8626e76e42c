"""Power loss at any moment: at `full` no acknowledged job is missing, at `relaxed` at most the last second."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import power
from tests.support.campaign import Campaign, size
from tests.support.field import Field, payloads
from tests.support.ledger import Acknowledged, read_database
from tests.support.power import DATABASE, LOSSES, SYNC, WAL, Disk, Note
from tests.support.waiting import until

MIX = payloads(
    (8, {"do": "nothing"}),
    (1, {"do": "big", "bytes": 9_000}),
    (1, {"do": "fail", "times": 1}),
    (1, {"do": "family", "queue": "q", "children": 2, "us": 100}),
    (1, {"do": "die", "how": "kill", "times": 1}),
)
RETENTION_NS = 2_000_000_000
RELAXED_NS = 2_500_000_000
"""A second, and what a busy machine and the sync itself may take."""


class Recorded(NamedTuple):
    """What a daemon wrote, and what its clients were told when."""

    notes: list[Note]
    acks: Acknowledged
    ended_ns: dict[int, int]
    """When the last run of a job ended."""

    @property
    def commits(self) -> int:
        """How often it committed."""
        return sum(map(_is_commit, self.notes))

    @property
    def checkpoints(self) -> int:
        """How often the database itself was synced."""
        return sum(note.kind == SYNC and note.file == DATABASE for note in self.notes)

    def known_at(self, at_ns: int) -> set[int]:
        """What was acknowledged by then, and cannot have been deleted since it ended."""
        old_ns = at_ns - RETENTION_NS
        return {
            job_id for job_id, told_ns in self.acks.at_ns.items()
            if told_ns <= at_ns and self.ended_ns.get(job_id, at_ns) > old_ns
        }  # fmt: skip


def record(path: Path, durability: str, commits: int) -> Recorded:
    """A daemon under mixed work, with a stop, a kill and retention in it, until it has committed so often."""
    path.mkdir(parents=True)
    library = power.recorder(path)
    if library is None:
        pytest.skip("there is no C compiler to make the recorder with")
    recording = path / "recording"
    counting = Counting(recording)
    database = path / "var" / "jobs.db"
    retention = {"completed": "2s", "cancelled": "2s", "dead": "2s"}
    queues = {"q": {"workers": 2, "retention": retention}}
    env = power.environment(library, database, recording)
    with Field(path, queues, env=env, daemon={"durability": durability}) as field:
        for seed in range(3):
            field.load("raw", "--payloads", MIX, "--group", 5, "--pause-ms", 1, "--delayed", 0.1, "--seed", seed)
        for part in range(4):
            until(lambda share=part + 1: counting.reached(commits * share / 4), 900, "commits")
            if part % 2:
                assert field.stop() == 0
            else:
                field.kill()
                until(lambda: not field.survivors(), 5, "the end of what the master left")
            field.start()
        field.end_loads()
    field.acks.read()
    ended = {job_id: max(run.ended_ns or 0 for run in runs) for job_id, runs in field.ledger.runs().items()}
    return Recorded(list(power.notes(recording)), field.acks, ended)


class Counting:
    """How many commits a recording has seen so far."""

    def __init__(self, recording: Path) -> None:
        self._tail = power.Tail(recording)
        self._count = 0

    def reached(self, count: float) -> bool:
        """Whether there were so many."""
        self._count += sum(map(_is_commit, self._tail.more()))
        return self._count >= count


def _is_commit(note: Note) -> bool:
    """A frame's header holds the size of the database after it, where it is the last of a transaction."""
    is_header = note.kind == power.WRITE and note.file == WAL and len(note.data) == 24
    return is_header and note.data[4:8] != b"\0\0\0\0"


def crash_points(count: int, recorded: Recorded, chance: random.Random) -> list[int]:
    """Moments to fail at, each after so many notes: half of them anywhere, half around syncs of the database."""
    syncs = [at for at, note in enumerate(recorded.notes) if note.kind == SYNC and note.file == DATABASE]
    around = [min(len(recorded.notes), max(1, chance.choice(syncs) + chance.randint(-4, 4))) for _ in range(count // 2)]
    anywhere = [chance.randint(1, len(recorded.notes)) for _ in range(count - len(around))]
    return sorted(around + anywhere)


def states(recorded: Recorded, points: list[int]) -> Iterator[tuple[int, Disk]]:
    """The disk at each crash point, with the latest moment that still lies before whatever came next."""
    disk, done = Disk(), 0
    ends = [note.begun_ns for note in recorded.notes[1:]] + [max(recorded.acks.at_ns.values())]
    for point in points:
        for note in recorded.notes[done:point]:
            disk.take(note)
        done = point
        yield ends[point - 1], disk


class Found(NamedTuple):
    """What a machine finds when it is switched on again."""

    broken: list[str]
    lost: set[int]


def switch_on(files: dict[int, bytearray], folder: Path, known: set[int]) -> Found:
    """Let SQLite recover what is there, and look for what was acknowledged."""
    database = folder / "jobs.db"
    power.write_image(files, database)
    try:
        with closing(sqlite3.connect(database)) as db:
            problems = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
            tables = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if "job" not in tables:
                return Found(problems, known)
            there = {row[0] for row in db.execute("SELECT id FROM job")}
        problems += read_database(database, integrity=False).problems
    except (sqlite3.DatabaseError, TypeError) as error:
        return Found([str(error)], set())
    return Found(problems, known - there)


def replay(recorded: Recorded, folder: Path, points: int, chance: random.Random) -> dict[str, list[tuple[int, Found]]]:
    """Every crash point in each model of loss; what was found, with the moment of the crash."""
    found: dict[str, list[tuple[int, Found]]] = {name: [] for name in LOSSES}
    for at_ns, disk in states(recorded, crash_points(points, recorded, chance)):
        known = recorded.known_at(at_ns)
        for name, loss in LOSSES.items():
            found[name].append((at_ns, switch_on(loss(disk, chance), folder, known)))
    return found


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_power_lost_at_any_moment(tmp_path: Path, campaign: Campaign, durability: str) -> None:
    """At `relaxed` losses must show: they are the control of the checker, and end a second before the crash."""
    for rounds in campaign.batches(short=25, full=1_000, batch=1_000):
        recorded = record(tmp_path / "recorded", durability, size(800, 20_000))
        assert recorded.checkpoints >= size(2, 10)
        found = replay(recorded, tmp_path, rounds, campaign.chance)
        everything = list(itertools.chain(*found.values()))
        assert [one.broken for _, one in everything if one.broken] == []
        lost = [(at_ns - recorded.acks.at_ns[job_id]) for at_ns, one in everything for job_id in one.lost]
        if durability == "full":
            assert lost == []
        else:
            assert lost, "nothing was lost: then the checker cannot see losses"
            assert max(lost) < RELAXED_NS
        campaign.passed(
            rounds,
            commits=recorded.commits,
            checkpoints=recorded.checkpoints,
            acknowledged_jobs=len(recorded.acks.at_ns),
            replays=len(everything),
            replays_with_losses=sum(bool(one.lost) for _, one in everything),
            ms_oldest_loss=max(lost, default=0) // 1_000_000,
        )


def test_a_daemon_starts_on_what_a_power_loss_leaves(tmp_path: Path, campaign: Campaign) -> None:
    """Some of the same images, given to a daemon: it starts, ends every job, and every acknowledged one is there."""
    recorded = record(tmp_path / "recorded", "full", 400)
    points = crash_points(size(3, 20), recorded, campaign.chance)
    for number, (at_ns, disk) in enumerate(states(recorded, points)):
        path = tmp_path / str(number)
        field = Field(path, {"q": {"workers": 2}})
        image = LOSSES["in parts"](disk, campaign.chance)
        power.write_image(image, field.database)
        with field:
            field.drain()
            assert field.stop() == 0
            data = read_database(field.database)
            assert data.problems == []
            assert data.owners == 0
            assert all(job.state in ("completed", "dead", "cancelled") for job in data.jobs.values())
            assert recorded.known_at(at_ns) <= data.jobs.keys()


def test_control_a_sync_that_is_left_out_is_found(tmp_path: Path, campaign: Campaign) -> None:
    """Planted: half of the WAL's syncs are taken out of a recording made at `full`."""
    recorded = record(tmp_path / "recorded", "full", 400)
    chance = random.Random(1)
    kept = [note for note in recorded.notes if note.kind != SYNC or note.file != WAL or chance.random() < 0.5]
    found = replay(recorded._replace(notes=kept), tmp_path, 30, campaign.chance)
    assert any(one.lost or one.broken for _, one in itertools.chain(*found.values()))
