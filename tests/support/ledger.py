"""The independent checker: what handlers left behind, against what the database says, by code of its own.

It shares nothing with the store: the database is read by the standard library's sqlite3, read-only, after the daemon
has stopped. Every rule of `check` names itself in what it reports, so that a control that plants a fault can ask for
the rule that must find it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

FINAL = ("completed", "dead", "cancelled")


class Run(NamedTuple):
    """One run of a handler. `ended_ns` is None if it never came to its last line."""

    id: int
    token: int
    pid: int
    started_ns: int
    ended_ns: int | None


class Ledger:
    """The file that handlers append to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._open: dict[tuple[int, int], Run] = {}
        self._runs: list[Run] = []
        self.repeated: list[Run] = []

    def read(self) -> None:
        """Take in what was appended since the last time."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            kind, *numbers = line.split()
            self._take(kind, *map(int, numbers))

    def _take(self, kind: str, job_id: int, token: int, pid: int, at_ns: int) -> None:
        run = Run(job_id, token, pid, at_ns, None)
        if kind == "S":
            earlier = self._open.pop((job_id, token), None)
            if earlier or any(known.token == token for known in self.by_job.get(job_id, ())):
                self.repeated.append(run)
            if earlier:
                self._keep(earlier)
            self._open[job_id, token] = run
        else:
            begun = self._open.pop((job_id, token), run)
            self._keep(begun._replace(ended_ns=at_ns))

    def _keep(self, run: Run) -> None:
        self._runs.append(run)
        self.by_job.setdefault(run.id, []).append(run)

    @property
    def by_job(self) -> dict[int, list[Run]]:
        """Runs that ended, by job."""
        found: dict[int, list[Run]] = self.__dict__.setdefault("_by_job", {})
        return found

    @property
    def running(self) -> list[Run]:
        """Runs that began and have not ended: they run, or were killed."""
        self.read()
        return list(self._open.values())

    @property
    def ended(self) -> int:
        """How many runs came to their end."""
        self.read()
        return len(self._runs)

    def runs(self) -> dict[int, list[Run]]:
        """Every run by job, in the order of their tokens."""
        self.read()
        found: dict[int, list[Run]] = defaultdict(list)
        for run in (*self._runs, *self._open.values()):
            found[run.id].append(run)
        return {job_id: sorted(runs, key=lambda run: run.token) for job_id, runs in found.items()}


class JobRow(NamedTuple):
    """A job as the database has it."""

    id: int
    queue: str
    state: str
    token: int | None
    payload: Any
    charges: Mapping[str, int]
    reason: str | None
    result: str | None = None


class Database(NamedTuple):
    """All of it, read at once."""

    jobs: dict[int, JobRow]
    tally: dict[tuple[str, str], int]
    stale: int
    owners: int
    problems: list[str]


def connect(path: Path | str) -> sqlite3.Connection:
    """A connection that cannot write."""
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)


def read_database(path: Path | str, *, integrity: bool = True) -> Database:
    """Read the whole database; what is wrong with it in itself is in `problems`."""
    with closing(connect(path)) as db:
        problems = [f"integrity: {row[0]}" for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"] \
            if integrity else []  # fmt: skip
        ready = Counter(row[0] for row in db.execute("SELECT id FROM ready"))
        scheduled = Counter(row[0] for row in db.execute("SELECT id FROM scheduled"))
        held: dict[int, list[int]] = defaultdict(list)
        for token, jobs in db.execute("SELECT token, jobs FROM lease"):
            for entry in json.loads(jobs):
                held[entry[0]].append(token)
        charges: dict[int, Counter[str]] = defaultdict(Counter)
        for job_id, kind, count in db.execute("SELECT id, kind, count(*) FROM attempt GROUP BY 1, 2"):
            charges[job_id][kind] = count
        jobs: dict[int, JobRow] = {}
        payloads: dict[str, Any] = {}
        uncharged: Counter[str] = Counter()
        rows = db.execute(
            "SELECT job.id, queue.name, job.payload, outcome.state, outcome.token, outcome.reason, outcome.result "
            "FROM job JOIN queue ON queue.id = job.queue LEFT JOIN outcome ON outcome.id = job.id"
        )
        for job_id, queue, payload, state, token, reason, result in rows:
            tokens = held[job_id] if state is None else []
            places = [state] * (state is not None) + ["queued"] * ready[job_id] + ["scheduled"] * scheduled[job_id]
            places += ["running"] * len(tokens)
            if len(places) != 1:
                problems.append(f"one place: job {job_id} is {' and '.join(places) or 'nowhere'}")
            where = places[0] if places else "nowhere"
            now = tokens[0] if tokens else token
            if payload not in payloads:
                payloads[payload] = json.loads(payload)
            charged = charges.get(job_id, uncharged)
            jobs[job_id] = JobRow(job_id, queue, where, now, payloads[payload], charged, reason, result)
        for name, ids in (("ready", ready), ("scheduled", scheduled), ("lease", held)):
            problems += [f"one place: {name} names job {job_id}, which does not exist" for job_id in ids.keys() - jobs]
        said = {
            (queue, state): count
            for queue, state, count in db.execute(
                "SELECT queue.name, tally.state, tally.jobs FROM tally JOIN queue ON queue.id = tally.queue"
            )
            if count
        }
        counted = dict(Counter((job.queue, job.state) for job in jobs.values()))
        if said != counted:
            problems.append(f"tally: it says {said}, there are {counted}")
        stale = db.execute("SELECT value FROM meta WHERE name = 'stale'").fetchone()[0]
        owners = db.execute("SELECT count(*) FROM owner").fetchone()[0]
    return Database(jobs, said, stale, owners, problems)


def check(
    path: Path | str, ledger: Ledger, acknowledged: Iterable[int], *, may_miss: Collection[int] = (),
    all_final: bool = True, overlap: bool = False, integrity: bool = True,
) -> list[str]:  # fmt: skip
    """What is wrong, each as `rule: what`; empty if nothing is. The daemon must have stopped.

    `may_miss` are ids that were answered as buffered before a kill; `overlap` allows two runs of a job at once.
    """
    data = read_database(path, integrity=integrity)
    runs = ledger.runs()
    problems = list(data.problems)
    problems += [f"same lease twice: job {run.id} began again under token {run.token}" for run in ledger.repeated]
    missing = sorted(set(acknowledged) - data.jobs.keys() - set(may_miss))
    problems += [f"acknowledged is there: job {job_id} is not" for job_id in missing]
    for job in data.jobs.values():
        problems += _check_job(job, runs.get(job.id, []), all_final=all_final, overlap=overlap)
    problems += _check_families(data.jobs)
    return problems


def _check_job(job: JobRow, runs: list[Run], *, all_final: bool, overlap: bool) -> list[str]:
    found = []
    if all_final and job.state not in FINAL:
        found.append(f"nothing is stuck: job {job.id} of {job.queue} is {job.state}")
    finishing = [run for run in runs if run.token == job.token and run.ended_ns is not None]
    if job.state == "completed" and len(finishing) != 1:
        found.append(f"ran to its end once: job {job.id} completed under {job.token}, its runs are {runs}")
    charged = sum(job.charges.values())
    if len(runs) > 1 + charged:
        found.append(f"runs are charged: job {job.id} ran {len(runs)} times, charged {dict(job.charges)}")
    if not overlap:
        found += [
            f"one at a time: job {job.id} ran under {later.token} before its run under {run.token} ended"
            for run, later in pairwise(runs)
            if run.ended_ns is not None and run.ended_ns > later.started_ns
        ]
    return found


def _check_families(jobs: Mapping[int, JobRow]) -> list[str]:
    """Children exist exactly once each if their parent completed, under the token it completed with; else not."""
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for job in jobs.values():
        if isinstance(job.payload, dict) and "parent" in job.payload:
            children[job.payload["parent"]].append((job.payload["token"], job.payload["number"]))
    found = []
    for job in jobs.values():
        if isinstance(job.payload, dict) and job.payload.get("do") == "family":
            wanted = [(job.token, number) for number in range(job.payload["children"])]
            expected = wanted if job.state == "completed" else []
            if sorted(children.get(job.id, [])) != expected:
                found.append(f"children: of job {job.id} ({job.state}) there are {children.get(job.id, [])}")
    return found


class Charged(NamedTuple):
    """Crashes against kills. `seen` runs were cut off by a death; `unseen` charges have no such run.

    A kill may fall between the end of a handler and its outcome's record, or before its first line: then the ledger
    shows no cut-off run, and the charge is right all the same. Both gaps are of microseconds.
    """

    problems: list[str]
    seen: int
    unseen: int


def check_crashes(jobs: Mapping[int, JobRow], ledger: Ledger, killed: Collection[int]) -> Charged:
    """Every run that the death of a killed worker cut off was charged as a crash, and nobody else was."""
    runs = ledger.runs()
    problems, seen, unseen = [], 0, 0
    for job in jobs.values():
        cut = sum(run.ended_ns is None and run.pid in killed for run in runs.get(job.id, []))
        charged = job.charges.get("crash", 0)
        if charged < cut:
            problems.append(f"crashes are charged: job {job.id} was cut off {cut} times, charged {charged}")
        seen += cut
        unseen += max(0, charged - cut)
    if seen + unseen > len(killed):
        problems.append(f"crashes are charged: {seen + unseen} charges for {len(killed)} kills")
    return Charged(problems, seen, unseen)


def crashes(jobs: Mapping[int, JobRow]) -> int:
    """How many crashes were charged."""
    return sum(job.charges.get("crash", 0) for job in jobs.values())


class Acknowledged:
    """What load processes were told: one line `id mode` per acknowledged job, appended after the reply was read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._offsets: dict[str, int] = {}
        self.committed: set[int] = set()
        self.buffered: set[int] = set()
        self.at_ns: dict[int, int] = {}
        self.source: dict[int, str] = {}
        """Which client was told of it."""
        self.twice: list[int] = []

    def read(self) -> int:
        """Take in what was appended; how many there are in all."""
        for path in self.folder.glob("*.acks"):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path.name, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._offsets[path.name] = self._offsets.get(path.name, 0) + len(whole)
            for line in whole.decode().splitlines():
                mode, at_ns, first, count = line.split()
                ids = range(int(first), int(first) + int(count))
                self.twice += [job_id for job_id in ids if job_id in self.at_ns]
                (self.committed if mode == "committed" else self.buffered).update(ids)
                self.at_ns.update(dict.fromkeys(ids, int(at_ns)))
                self.source.update(dict.fromkeys(ids, path.stem))
        return len(self.committed) + len(self.buffered)

    def check(self, path: Path | str, ledger: Ledger, **options: Any) -> list[str]:
        """`check` of all that was acknowledged; no id may have been given to two jobs."""
        self.read()
        twice = [f"acknowledged once: id {job_id} was given out twice" for job_id in self.twice]
        return twice + check(path, ledger, self.committed | self.buffered, **options)
