"""Jobs that end their workers, among thousands that do not: only they die, nobody beside them is charged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from supervisor.keeper import verdicts
from tests.support.campaign import Campaign
from tests.support.field import Field
from tests.support.ledger import Database, Ledger, check, read_database
from tests.support.rig import Rig, a_queue

DEATHS = ("segv", "abort", "exit")
BATCH = 16
INNOCENT = {"do": "spin", "us": 60}


def shuffled(campaign: Campaign, pills: int, innocents: int) -> list[dict[str, Any]]:
    """Pills among innocents."""
    jobs = [{"do": "die", "how": DEATHS[number % 3]} for number in range(pills)]
    jobs += [dict(INNOCENT) for _ in range(innocents)]
    campaign.chance.shuffle(jobs)
    return jobs


def judged(data: Database, ledger: Ledger, pills: int) -> list[str]:
    """What is wrong with who died and who was charged."""
    runs = ledger.runs()
    found = []
    for job in data.jobs.values():
        poison = job.payload["do"] == "die"
        if poison and (job.state != "dead" or job.reason != "max_crashes" or dict(job.charges) != {"crash": 3}):
            found.append(f"pills die: job {job.id} is {job.state} ({job.reason}), charged {dict(job.charges)}")
        if not poison and (job.state != "completed" or job.charges):
            found.append(f"innocents live: job {job.id} is {job.state}, charged {dict(job.charges)}")
        if not poison and len(runs[job.id]) > 2:
            found.append(f"innocents run: job {job.id} ran {len(runs[job.id])} times")
    dead = sum(job.state == "dead" for job in data.jobs.values())
    return found + [f"pills die: {dead} are dead, {pills} were given"] * (dead != pills)


def batches(data: Database, ledger: Ledger) -> int:
    """How many pills first ran in a lease of which at least 16 jobs ran."""
    sizes = Counter(run.token for runs in ledger.runs().values() for run in runs)
    firsts = [ledger.runs()[job.id][0].token for job in data.jobs.values() if job.payload["do"] == "die"]
    return sum(sizes[token] >= BATCH for token in firsts)


@pytest.mark.campaign
@pytest.mark.timeout(900)
def test_pills_die_and_innocents_live(tmp_path: Path, campaign: Campaign) -> None:
    """With the restarts that a queue has by default: pills must not open the circuit either."""
    for number, rounds in enumerate(campaign.batches(short=1, full=10, batch=1)):
        queue = {"workers": 2, "max_crashes": 3, "restart": {"intensity": 5, "period": "10s"}}
        with Field(tmp_path / str(number), {"q": queue}) as field:
            field.add([INNOCENT] * 300)
            field.drain()
            field.ask("pause", queue="q")
            ids = []
            jobs = shuffled(campaign, 30, 4_970)
            for first in range(0, len(jobs), 500):
                ids += field.add(jobs[first : first + 500])
            field.ask("resume", queue="q")
            field.drain()
            assert field.ask("status")["queues"]["q"]["circuit"] == "closed"
            assert field.stop() == 0
            data = read_database(field.database)
            assert check(field.database, field.ledger, ids) == []
            assert judged(data, field.ledger, 30) == []
            in_batches = batches(data, field.ledger)
            assert in_batches >= 15, "too few pills were leased with others: that is no poison in batches"
        campaign.passed(rounds, pills=30, pills_in_batches=in_batches)


def test_control_charging_everyone_beside_the_pill_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, campaign: Campaign
) -> None:  # fmt: skip
    """Planted: what a dead worker held is charged, not what it ran."""
    kept = verdicts.judge_rest

    def harsh(work: Any, owner: int, slot: Any, _cells: Any, certificate: Any) -> None:
        held = [lease for lease in work.tx.open_leases().values() if lease.owner == owner]
        cells = [verdicts.Cell(0, job, lease.token, work.boot_ms, 0) for lease in held for job in lease.jobs]
        kept(work, owner, slot, cells, certificate)

    monkeypatch.setattr(verdicts, "judge_rest", harsh)
    with Rig(tmp_path, [a_queue(tmp_path)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        rig.enqueue([INNOCENT] * 300)
        rig.until(rig.drained)
        rig.enqueue(shuffled(campaign, 3, 400))
        rig.until(rig.drained)
        assert rig.finish() == 0
        assert any(
            problem.startswith("innocents live") for problem in judged(read_database(rig.database), rig.ledger, 3)
        )
