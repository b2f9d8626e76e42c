"""Kills of every role while flows run: every flow ends, every callback is made once, no completed step runs again."""

from __future__ import annotations

import json
import os
import subprocess
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
from tests.support.aim import Target, choose, strike, targets
from tests.support.campaign import FULL, Campaign, size
from tests.support.field import Field
from tests.support.ledger import Ledger, connect
from tests.support.waiting import until

WORKING = ("q", "r", "s")
"""Several pools: while one has lost its foreman, others have somebody to be hit."""
QUEUES = {
    **{name: {"workers": 2, "max_attempts": 1} for name in WORKING},
    "told": {"workers": 1, "max_attempts": 1},
}
KILL_EVERY_S = 0.1
SHOT_EVERY_S = 0.09
"""A little more often, so that those that come late change nothing."""
NOBODY_S = 0.001
ROLES = ("worker", "worker", "foreman", "keeper")
MASTER_EVERY_S = 5.0
KEEPERS_ALLOWED = 5
"""A master gives up when more of its keepers die within a minute."""
STEPS = 50


def a_flow(number: int) -> dict[str, Any]:
    """Fifty steps of every kind: a chain, a fan, a flow in the flow, a condition, a failure that is ignored."""

    def step(name: str, *after: str, **more: Any) -> dict[str, Any]:
        queue = WORKING[(number + len(name) + ord(name[-1])) % len(WORKING)]
        return {"name": name, "queue": queue, "after": list(after), "payload": {"n": number}, **more}

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


class Storm:
    """Kills by the clock, as long as there is a daemon to be hit; while one is started anew nothing can be."""

    def __init__(self, field: Field, campaign: Campaign) -> None:
        self.field = field
        self.chance = campaign.chance
        self.killed: Counter[str] = Counter()
        self.up_s = 0.0
        self.longest_s = 0.0

    def rage(self, over: threading.Event) -> None:
        """Kill a process each 100 ms, and everything each 5 s, until `over`."""
        while not over.is_set():
            self.shoot(over)
            if not over.is_set():
                self.kill_everything()

    def shoot(self, over: threading.Event) -> None:
        """Kill what one daemon has, until its own turn has come. A shot that was late makes the next no later."""
        keepers, shots = KEEPERS_ALLOWED, 0
        began = last = time.monotonic()
        while not over.is_set() and (now := time.monotonic()) - began < MASTER_EVERY_S:
            if now < (due := began + (shots + 1) * SHOT_EVERY_S):
                over.wait(due - now)
                continue
            struck = self.shot(keepers > 0)
            if struck is None:
                over.wait(NOBODY_S)
                continue
            keepers, shots = keepers - (struck == "keeper"), shots + 1
            self.longest_s, last = max(self.longest_s, time.monotonic() - last), time.monotonic()
        self.up_s += time.monotonic() - began

    def shot(self, keeper: bool) -> str | None:
        """Kill a process of a random role, or of another one if nobody has that; the role, None if nobody was hit."""
        roles = [self.chance.choice(ROLES), *ROLES]
        target = choose(targets(self.field.pid), [role for role in roles if keeper or role != "keeper"], self.chance)
        if target is None or not strike(target):
            return None
        self.killed[target.role] += 1
        return target.role

    def kill_everything(self) -> None:
        self.field.kill()
        until(lambda: not self.field.survivors(), 10, "the end of everything after the master")
        self.field.start()
        self.killed["master"] += 1

    @property
    def interval_s(self) -> float:
        """How long a daemon was up for each kill of one of its processes."""
        return self.up_s / max(1, self.killed.total() - self.killed["master"])

    def figures(self) -> dict[str, int]:
        """What to say of it."""
        return {
            **self.killed, "ms_up": int(self.up_s * 1000), "us_between_kills": int(self.interval_s * 1_000_000),
            "ms_at_most": int(self.longest_s * 1000),
        }  # fmt: skip


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
    flows = size(12, 1_000)
    with Field(tmp_path, QUEUES) as field:
        over, storm = threading.Event(), Storm(field, campaign)
        shooter = threading.Thread(target=storm.rage, args=(over,))
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
    assert not FULL or storm.interval_s <= KILL_EVERY_S
    campaign.passed(flows, **storm.figures())


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


def test_whoever_has_the_number_of_a_process_that_is_gone_is_not_struck() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        assert not strike(Target(other.pid, 1, "worker"))
        assert other.poll() is None
        other.kill()
        other.wait()
    assert not strike(Target(other.pid, 1, "worker"))
