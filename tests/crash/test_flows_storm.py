"""Kills of every role while flows run: every flow ends, every callback is made once, no completed step runs again."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import Busy, NotRunning, Unconfirmed
from tests.conformance.flow_audit import misflowed
from tests.support.campaign import Campaign, size
from tests.support.field import Field, attempt, kill
from tests.support.ledger import Ledger, connect
from tests.support.waiting import until

QUEUES = {
    "q": {"workers": 4, "max_attempts": 1},
    "told": {"workers": 1, "max_attempts": 1},
}
KILL_EVERY_S = 0.1
MASTER_EVERY_S = 5.0
KEEPERS_ALLOWED = 5
"""A master gives up when more of its keepers die within a minute."""
STEPS = 50


def a_flow(number: int) -> dict[str, Any]:
    """Fifty steps of every kind: a chain, a fan, a flow in the flow, a condition, a failure that is ignored."""

    def step(name: str, *after: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "queue": "q", "after": list(after), "payload": {"n": number}, **more}

    fan = [f"fan{each}" for each in range(20)]
    inner = [step(f"in{each}", *([f"in{each - 1}"] if each % 5 else [])) for each in range(15)]
    bad = step("bad", "chain2") | {"payload": {"do": "fail"}}
    return {
        "name": f"flow {number}",
        "steps": [
            *[step(f"chain{each}", *([f"chain{each - 1}"] if each else [])) for each in range(5)],
            bad,
            *[step(name, "chain1") for name in fan],
            step("gather", *fan) | {"after": {"bad": "ignore", **dict.fromkeys(fan, "cancel")}},
            {"name": "inner", "after": ["gather"], "steps": inner, "on_complete": {"queue": "told", "payload": "in"}},
            step("skipped", "inner", when="results.inner"),
            step("wanted", "skipped", when="states.skipped == 'skipped'"),
            *[step(f"end{each}", "inner") for each in range(5)],
            step("last", "wanted", *[f"end{each}" for each in range(5)], "chain4"),
        ],
        **{name: {"queue": "told", "payload": "out"} for name in ("on_success", "on_complete", "on_death")},
    }  # fmt: skip


def shoot(field: Field, campaign: Campaign, over: threading.Event) -> Counter[str]:
    """Kill a process each 100 ms, and everything each 5 s, until `over`."""
    killed: Counter[str] = Counter()
    began, keepers = time.monotonic(), 0
    while not over.wait(KILL_EVERY_S):
        if time.monotonic() - began > MASTER_EVERY_S:
            field.kill()
            until(lambda: not field.survivors(), 10, "the end of everything after the master")
            field.start()
            began, keepers = time.monotonic(), 0
            killed["master"] += 1
            continue
        role = campaign.chance.choice(("worker", "worker", "foreman", "keeper"))
        if role == "keeper" and keepers == KEEPERS_ALLOWED:
            role = "worker"
        pids = attempt(lambda role=role: field.pids(role)) or []  # type: ignore[misc]
        if pids:
            kill(campaign.chance.choice(pids))
            killed[role] += 1
            keepers += role == "keeper"
    return killed


def start_all(field: Field, flows: int) -> list[int]:
    """Start the flows, each as often as it takes until it is acknowledged, under one key."""
    ids = []
    with field.client(timeout=60, one_shot=False, patience=60) as client:
        for number in range(flows):
            flow, key = a_flow(number), os.urandom(8).hex()
            ids.append(until(lambda flow=flow, key=key: started(client, flow, key), 120))  # type: ignore[misc]
    return ids


def started(client: Client[int], flow: dict[str, Any], key: str) -> int | None:
    try:
        return client.flows.start(flow, request_key=key)
    except (Unconfirmed, Busy, NotRunning):
        return None


def ended(field: Field, flows: int) -> bool:
    with closing(connect(field.database)) as db:
        (done,) = db.execute("SELECT count(*) FROM flow WHERE parent IS NULL AND finished_at IS NOT NULL").fetchone()
    return int(done) >= flows


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_every_flow_ends_with_each_callback_once_whatever_is_killed(tmp_path: Path, campaign: Campaign) -> None:
    flows = size(20, 1_000)
    with Field(tmp_path, QUEUES) as field:
        over = threading.Event()
        found: list[Counter[str]] = []
        shooter = threading.Thread(target=lambda: found.append(shoot(field, campaign, over)))
        shooter.start()
        try:
            ids = start_all(field, flows)
            until(lambda: ended(field, flows), 120 + 5 * flows, "the end of all flows")
        finally:
            over.set()
            shooter.join()
        field.drain(120)
        assert field.stop() == 0
    assert len(set(ids)) == flows
    check_flows(field.database, ids)
    check_effects(field.ledger)
    campaign.passed(flows, **found[0])


def check_flows(database: Path, ids: list[int]) -> None:
    with closing(connect(database)) as db:
        assert list(misflowed(db)) == []
        states = dict(db.execute("SELECT id, state FROM flow WHERE parent IS NULL").fetchall())
        assert states == dict.fromkeys(ids, "completed")
        ended = Counter(db.execute("SELECT outcome.state, step.skipped FROM step JOIN outcome USING (id)").fetchall())
        flows = len(ids)
        told = len(ids)  # the callback of the flow in each belongs to it
        assert ended == {("dead", 0): flows, ("cancelled", 1): flows, ("completed", 0): flows * (STEPS - 2) + told}
        calls = Counter()
        for (payload,) in db.execute("SELECT payload FROM job JOIN queue ON queue.id = job.queue WHERE name = 'told'"):
            flow = json.loads(payload)["flow"]
            calls[flow["id"], flow["event"]] += 1
        assert set(calls.values()) == {1}
        outer = {(flow, event) for flow in ids for event in ("complete", "success", "death")}
        assert outer <= set(calls)
        assert len(calls) == len(outer) + flows


def check_effects(ledger: Ledger) -> None:
    """A run that came to its end is the job's last one, unless its process was killed before it began another."""
    last_of: dict[int, int] = {}
    runs = ledger.runs()
    for job in runs.values():
        for run in job:
            last_of[run.pid] = max(last_of.get(run.pid, 0), run.started_ns)
    for job_id, job in runs.items():
        for run in job[:-1]:
            assert run.ended_ns is None or run.started_ns == last_of[run.pid], (
                f"job {job_id} had completed under token {run.token} in process {run.pid}, which went on, and ran again"
            )
