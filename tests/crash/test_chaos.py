"""All at once, in random order: deaths, stops, reloads, cancellations, pauses and backups, over three queues."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.campaign import Campaign, size
from tests.support.field import SHUFFLED, Field, attempt, kill, moment, payloads, toml
from tests.support.ledger import check, read_database
from tests.support.waiting import gone, until

MIX = payloads(
    (20, {"do": "nothing"}),
    (6, {"do": "spin", "us": 300}),
    (4, {"do": "rest", "ms": 20}),
    (1, {"do": "big", "bytes": 50_000}),
    (2, {"do": "family", "queue": "other", "children": 2, "us": 2_000}),
    (1, {"do": "fail", "times": 2}),
    (1, {"do": "die", "how": "segv", "times": 1}),
    (1, {"do": "stubborn", "ms": 5_000}),
)
QUEUES = {
    "q": {"workers": 2, "timeout": "300ms", "kill_grace": "150ms"},
    "other": {"workers": {"min": 1, "max": 3}, "scale": {"latency": "50ms", "down_after": "300ms"}, "order": "lifo"},
    "c": {"command": ["sleep", "0.02"], "workers": 1},
}


class Chaos:
    """A daemon and what is done to it."""

    def __init__(self, field: Field, chance: random.Random) -> None:
        self.field = field
        self.chance = chance
        self.workers = 2
        self.done: Counter[str] = Counter()
        self.keeper_deaths = 0

    def act(self) -> None:
        """One thing, at random."""
        name, action = self.chance.choice(list(ACTIONS.items()))
        action(self)
        self.done[name] += 1

    def pids(self, *roles: str) -> list[int]:
        """Processes of these roles; none while nobody can say."""
        return attempt(lambda: self.field.pids(*roles)) or []

    def kill_one(self, role: str) -> None:
        """SIGKILL to one process of a role."""
        pids = self.pids(role)
        if pids:
            pid = self.chance.choice(pids)
            kill(pid)
            gone(pid)

    def kill_keeper(self) -> None:
        self.keeper_deaths += 1
        if self.keeper_deaths % 4 == 0:
            assert self.field.stop() == 0
            self.field.start()
        self.kill_one("keeper")

    def kill_master(self) -> None:
        self.field.kill()
        until(lambda: not self.field.survivors(), 2, "the end of everything 2 s after the master")
        self.field.start()

    def kill_everything(self) -> None:
        everyone = self.field.survivors()
        kill(*everyone)
        self.field.wait_end()
        gone(*everyone)
        self.field.start()

    def stop_worker(self) -> None:
        """Stop a worker for longer than its job may take, or not quite so long."""
        pids = self.pids("worker")
        if pids:
            pid = self.chance.choice(pids)
            attempt(lambda: os.kill(pid, signal.SIGSTOP))
            moment(self.chance, 0.6)
            attempt(lambda: os.kill(pid, signal.SIGCONT))

    def restart(self) -> None:
        assert self.field.stop() == 0
        self.field.start()

    def reload(self) -> None:
        """Another number of workers, and perhaps what restarts the pool as well; the others are not touched."""
        self.workers = 5 - self.workers
        boot_timeout = self.chance.choice(("30s", "31s"))
        queues = QUEUES | {"q": QUEUES["q"] | {"workers": self.workers, "boot_timeout": boot_timeout}}
        self.field.configure(toml(self.field.path, queues))
        self.field.signal(signal.SIGHUP)

    def cancel(self) -> None:
        self.field.acks.read()
        ids = self.chance.sample(sorted(self.field.acks.at_ns), 20)
        attempt(lambda: self.field.ask("cancel", ids=ids))

    def pause(self) -> None:
        queue = self.chance.choice(("q", "other"))
        attempt(lambda: self.field.ask("pause", queue=queue))
        moment(self.chance, 0.1)
        self.resume()

    def resume(self) -> None:
        for queue in ("q", "other", "c"):
            self.field.ask("resume", queue=queue)

    def backup(self) -> None:
        target = self.field.path / f"backup-{sum(self.done.values())}.db"
        ran = self.field.ctl("backup", target)
        if ran.status == 0:
            assert read_database(target).problems == []
            target.unlink()


ACTIONS: dict[str, Callable[[Chaos], None]] = {
    "workers_killed": lambda chaos: chaos.kill_one("worker"),
    "foremen_killed": lambda chaos: chaos.kill_one("foreman"),
    "keepers_killed": Chaos.kill_keeper,
    "masters_killed": Chaos.kill_master,
    "all_killed": Chaos.kill_everything,
    "workers_stopped": Chaos.stop_worker,
    "restarts": Chaos.restart,
    "reloads": Chaos.reload,
    "cancellations": Chaos.cancel,
    "pauses": Chaos.pause,
    "backups": Chaos.backup,
}


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_nothing_is_lost_whatever_comes_together(tmp_path: Path, campaign: Campaign) -> None:
    for number, rounds in enumerate(campaign.batches(short=15, full=1_000, batch=50)):
        with Field(tmp_path / str(number), QUEUES, env={} if number % 2 else SHUFFLED) as field:
            for seed in range(2):
                field.load("raw", "--payloads", MIX, "--group", 6, "--pause-ms", 40, "--delayed", 0.2, "--seed", seed)
            field.load("client", "--queue", "other", "--group", 3, "--pause-ms", 40)
            field.load("raw", "--queue", "c", "--group", 1, "--pause-ms", 80)
            chaos = Chaos(field, campaign.chance)
            for _ in range(rounds):
                field.under_load(20)
                moment(campaign.chance, 0.1)
                chaos.act()
            chaos.resume()
            field.end_loads()
            field.drain(size(60, 180))
            assert field.stop() == 0
            assert field.survivors() == []
            field.acks.read()
            problems = check(field.database, field.ledger, field.acks.at_ns)
            commands = {job.id for job in read_database(field.database).jobs.values() if job.queue == "c"}
            # Commands write no ledger; all else about them holds.
            unseen = {f"ran to its end once: job {job_id} " for job_id in commands}
            assert [one for one in problems if not one.startswith(tuple(unseen))] == []
            assert field.acks.twice == []
        campaign.passed(rounds, acknowledged_jobs=len(field.acks.at_ns), **chaos.done)
