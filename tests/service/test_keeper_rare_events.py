"""The keeper between its rarer events: passes without time, stores that cannot commit, a master that is gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from supervisor.config.spec import Demand, Outbox, Queue, Spec
from supervisor.keeper import dispatch, recall
from supervisor.keeper.published import Tasks
from supervisor.keeper.service import Service
from supervisor.keeper.slots import Phase
from supervisor.keeper.state import Gathering, State
from supervisor.policy.discipline import PLAIN
from supervisor.store.open import open_store
from supervisor.store.protocol import Group, Lease, NewJob
from supervisor.store.sqlite.store import BUSY_TIMEOUT_MS
from supervisor.unix.clock import boot_ns
from supervisor.wire import control
from tests.crash.test_forged_slots import Forger, forging
from tests.support.ledger import read_database
from tests.support.rig import Rig, a_queue
from tests.support.waiting import opened

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("BEGIN")
print(connection.execute("SELECT count(*) FROM job").fetchone(), flush=True)
sys.stdin.read()
"""


class Busy:
    """A pass that is late after each lease, over queues that always have jobs and workers with room."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.tx = self
        self.leased: dict[int, list[Lease]] = {}
        self.boot_ms = 0
        self.served: list[str] = []
        self.gave_up = False

    def late(self, _until_us: int) -> bool:
        return True

    def afterwards(self, _effect: object) -> None:
        pass

    def waiting(self, _queue: str) -> int:
        return 1_000

    def next_of(self, source: str, _passed: set[str]) -> str:
        return source

    def others_of(self, _source: str) -> bool:
        return False

    def lease(self, queue: str, *_: object, **__: object) -> Any:
        self.served.append(queue)
        return SimpleNamespace(queue=queue, jobs=[SimpleNamespace(payload=b"", mark=0)])


def a_slot(number: int, *, out: int = 0, quiet_since_ms: int = 0) -> Any:
    held = dict.fromkeys(range(out), (1, 0))
    return SimpleNamespace(
        number=number, pool="q", phase=Phase.READY, owner=1, out=held, out_bytes=0, unsent=(), solo=False, batch=0,
        idle=not out, pinged=False, quiet_since_ms=quiet_since_ms,
    )  # fmt: skip


def test_a_queue_that_is_never_empty_leaves_others_their_turn() -> None:
    state: Any = SimpleNamespace(
        spec=Spec(queues={name: Queue(name=name, handler="m:f") for name in "abc"}), workplaces=dict.fromkeys("abc"),
        breakers={}, overdue=SimpleNamespace(behind=False), lease_first=None, wants_lease=True, tasks=Tasks(),
        gathering=Gathering(), batch_rule=lambda _: None,
        pools_of=lambda queue: (queue,),
        discipline=lambda _: PLAIN, demand=lambda *_: Demand(),
        look_ahead=lambda _: 100, ready_slots=lambda _: [a_slot(1)],
    )  # fmt: skip
    served = []
    for _ in range(6):
        work: Any = Busy(state)
        dispatch.lease_out(work)
        assert state.wants_lease
        served += work.served
    assert served == ["a", "b", "c", "a", "b", "c"]


class Waiting(Busy):
    """A pass in time, over one queue with so many jobs."""

    def __init__(self, state: Any, jobs: int) -> None:
        super().__init__(state)
        self.jobs = jobs

    def late(self, _until_us: int) -> bool:
        return False

    def waiting(self, _queue: str) -> int:
        return self.jobs

    def next_of(self, source: str, _passed: set[str]) -> str | None:
        return source if self.jobs else None

    def lease(self, queue: str, _owner: int, jobs_max: int, *_: object, **__: object) -> Any:
        count = min(jobs_max, self.jobs)
        self.jobs -= count
        return SimpleNamespace(queue=queue, jobs=[SimpleNamespace(payload=b"", mark=0)] * count) if count else None


@pytest.mark.parametrize(
    ("demand", "ahead", "waiting", "handed"),
    [
        (Demand(), 100, 6, {1: 2, 2: 2, 3: 2}),  # spread over all of them
        (Demand(min=5), 100, 6, {1: 5, 2: 1}),
        (Demand(min=5), 1, 12, {1: 5, 2: 5, 3: 2}),  # however slow they are
        (Demand(max=4), 100, 30, {1: 4, 2: 4, 3: 4}),
        (Demand(min=3, max=4), 1, 30, {1: 3, 2: 3, 3: 3}),
    ],
)
def test_a_worker_is_handed_as_many_as_its_queue_demands(
    demand: Demand, ahead: int, waiting: int, handed: dict[int, int]
) -> None:
    slots = [a_slot(1), a_slot(2), a_slot(3)]
    state: Any = SimpleNamespace(
        spec=Spec(queues={"a": Queue(name="a", handler="m:f")}), workplaces={"a": None}, breakers={}, tasks=Tasks(),
        pools_of=lambda queue: (queue,),
        gathering=Gathering(), batch_rule=lambda _: None,
        overdue=SimpleNamespace(behind=False), lease_first=None, wants_lease=True, discipline=lambda _: PLAIN,
        demand=lambda *_: demand, look_ahead=lambda _: ahead, ready_slots=lambda _: slots,
    )  # fmt: skip
    work: Any = Waiting(state, waiting)
    dispatch.lease_out(work)
    assert {number: sum(len(lease.jobs) for lease in leases) for number, leases in work.leased.items()} == handed


def test_a_worker_is_not_given_fewer_than_its_queue_demands() -> None:
    slots = [a_slot(1), a_slot(2, out=2), a_slot(3, out=4)]
    work: Any = Waiting(SimpleNamespace(look_ahead=lambda _: 7, ready_slots=lambda _: slots), 9)
    assert [room.slot.number for room in dispatch.rooms_of(work, "a", Demand(min=5))] == [1, 2]


def test_a_stuck_worker_that_a_pass_could_not_relieve_is_looked_at_again() -> None:
    slots = [a_slot(1, out=2, quiet_since_ms=0), a_slot(2), a_slot(3)]
    state: Any = SimpleNamespace(workplaces={"q": None}, recall_at_ms=None, slots_of=lambda _: slots, leasing=True)
    assert recall.stuck_slots(state, 1_000, {"q": True}) == []  # the job that waits may be for the idle ones
    assert recall.stuck_slots(state, 1_000, {"q": False}) == slots[:1]
    assert state.recall_at_ms is not None
    assert state.recall_at_ms <= 1_000 + recall.QUIET_MS


def test_certificates_do_not_pile_up_while_the_store_cannot_commit(tmp_path: Path) -> None:
    store: Any = SimpleNamespace(govern=lambda _: None)
    state = State(Spec(), store, *[None] * 3)  # type: ignore[arg-type]
    link: Any = object()
    for _ in range(100):
        state.certify(control.Certificate(7, 1, 99, "exit", gone=False), link)
    state.certify(control.Certificate(7, 1, 99, "exit"), link)
    ((kept, _),) = state.certificates.values()
    assert kept.gone


def test_a_worker_that_the_undertaker_ends_did_not_crash(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=2)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        rig.replace = False
        fifo = tmp_path / "never"
        os.mkfifo(fifo)
        rig.enqueue([{"do": "hold", "until": str(fifo)}] * 2)
        rig.until(lambda: len(rig.ledger.running) == 2, what="running jobs")
        os.close(rig._lifeline[1])
        rig._lifeline = (rig._lifeline[0], os.open(os.devnull, os.O_WRONLY))
        rig.until(lambda: not rig.keeper, what="the end of the keeper")
        jobs = read_database(rig.database).jobs.values()
        assert [dict(job.charges) for job in jobs] == [{"interrupted": 1}] * 2


def test_who_waits_for_a_job_that_is_purged_is_told(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        (job_id,) = rig.enqueue([{}], delay_ms=3_600_000)
        answers: list[Any] = []
        client = rig.client()
        thread = threading.Thread(target=lambda: answers.append(client.ask("wait", job=job_id, timeout_ms=60_000)))
        thread.start()
        probe = rig.client()
        rig.until(lambda: probe.ask("hello")["ok"], what="a keeper that has read the wait")
        rig.ask("purge", queue="q", state="scheduled")
        rig.until(lambda: answers, 10, "an answer")
        assert answers[0]["error"]["code"] == "unknown_job"
        thread.join()
        for used in (client, probe):
            used.close()


def test_a_repeated_group_is_answered_though_the_store_cannot_commit(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)], acknowledge="buffered") as rig:
        rig.start_keeper(store__before_commit="enospc@3")
        client = rig.client()
        first = [client.ask("enqueue", queue="q", key="k", jobs=[{"payload": 1}]) for _ in range(6)]
        assert len({tuple(answer["ok"]["ids"]) for answer in first}) == 1
        client.close()
    assert sqlite3.connect(rig.database).execute("SELECT count(*) FROM job").fetchone() == (1,)


def test_a_successor_waits_for_a_store_that_cannot_commit(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        fifo = tmp_path / "held"
        os.mkfifo(fifo)
        (job_id,) = rig.enqueue([{"do": "hold", "until": str(fifo)}])
        rig.until(lambda: rig.ledger.running, what="a running job")
        rig.kill_keeper()
        rig.start_keeper(store__before_commit="enospc")
        assert rig.keeper, f"it ended with {rig.heard}"
        os.close(os.open(fifo, os.O_WRONLY))
        rig.until(rig.drained, what="the end of the job")
        assert rig.job(job_id)["attempt"] == 1


def test_a_memory_that_is_no_file_any_more_costs_its_worker_and_not_the_keeper(tmp_path: Path) -> None:
    def deed(forger: Forger) -> None:
        os.unlink("memory", dir_fd=forger.folder)
        os.mkfifo("memory", dir_fd=forger.folder)

    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        forger = rig.spawn("q", forging(deed))
        rig.until(lambda: rig.ready, what="a ready worker")
        rig.enqueue([{}] * 3)
        rig.until((Path(forger.slot.directory) / "memory").is_fifo, what="the deed")
        rig.kill_keeper()
        rig.start_keeper()
        assert rig.keeper, f"it ended with {rig.heard}"
        rig.until(lambda: rig.drained() or rig.said(control.RecycleWorker), what="another worker")
        rig.until(rig.drained, what="the end of all jobs")


def test_a_job_that_was_cancelled_before_it_began_does_not_run_later(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        rig.enqueue([{}] * 50)
        rig.until(rig.drained, what="a known mean")
        fifo = tmp_path / "held"
        os.mkfifo(fifo)
        first, second = rig.enqueue([{"do": "hold", "until": str(fifo)}, {}])
        rig.until(lambda: rig.ledger.running, what="a running job")
        assert rig.job(second)["state"] == "running", "it was to be leased along with the first"
        assert rig.ask("cancel", ids=[second])["done"] == [second]
        rig.kill_worker(next(iter(rig.hands.values())), "stop")
        rig.until(lambda: rig.job(second)["state"] == "cancelled", what="the cancellation")
        rig.until(lambda: opened(fifo), what="a second run of the first")
        rig.until(rig.drained, what="the end of the first")
        assert rig.job(first)["state"] == "completed"


def test_a_worker_that_died_before_it_was_known_leaves_no_owner(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        os.kill(rig.keeper, signal.SIGSTOP)
        slot = rig.a_slot("q")
        for gone in (False, True):
            rig.say("q", control.Started(slot.number, 1 << 22, 5, 0))
            rig.say("q", control.Certificate(slot.number, slot.incarnation, 1 << 22, "exit", exit_code=1, gone=gone))
        os.kill(rig.keeper, signal.SIGCONT)
        rig.until(lambda: rig.said(control.SlotClosed), what="a closed slot")
        assert sqlite3.connect(rig.database).execute("SELECT count(*) FROM owner").fetchone() == (0,)


def test_a_checkpoint_does_not_wait_for_readers(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "jobs.db"), "full", create=True, migrate=True)
    with store.transaction(1) as tx:
        tx.insert([Group("q", [NewJob(b"1")])])
    waits: list[int] = []
    reader = subprocess.Popen([sys.executable, "-c", READER, store.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdout.readline()
    with store.transaction(2) as tx:
        tx.pause("q", paused=True)
    for _ in range(3):
        begun_ns = boot_ns()
        store.checkpoint("TRUNCATE")
        waits.append((boot_ns() - begun_ns) // 1_000_000)
    assert store.wal_bytes(), "the reader does not read"
    assert min(waits) < BUSY_TIMEOUT_MS // 2
    assert store.connection.execute("PRAGMA busy_timeout").fetchone() == (BUSY_TIMEOUT_MS,)
    reader.stdin.close()
    reader.wait()
    store.close()


@pytest.mark.parametrize("jobs", [1, 20])
def test_a_worker_that_takes_nothing_holds_nothing(tmp_path: Path, jobs: int) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=2)]) as rig:
        rig.start_keeper()
        rig.spawn_all()
        rig.enqueue([{}] * 50)
        rig.until(rig.drained, what="a known mean")
        first, second = sorted(rig.hands)
        for stopped, other in ((first, second), (second, first)):
            os.kill(rig.hands[stopped].pid, signal.SIGSTOP)
            rig.enqueue([{}] * jobs)
            rig.until(rig.drained, what=f"the other worker, {other}, to run all")
            os.kill(rig.hands[stopped].pid, signal.SIGCONT)
            rig.until(lambda: both_work(rig), what="work for both")


def both_work(rig: Rig) -> bool:
    """Let some jobs run; whether each worker has begun one of them."""
    before = {worker["pid"]: worker["done"] for worker in rig.ask("workers")["workers"]}
    rig.enqueue([{"do": "rest", "ms": 5}] * 8)
    rig.until(rig.drained, what="the end of all jobs")
    return all(worker["done"] > before[worker["pid"]] for worker in rig.ask("workers")["workers"])


@pytest.mark.parametrize(("groups", "operations"), [(200, 0), (0, 2_000)])
def test_what_cannot_be_committed_is_bounded_however_small_it_is(groups: int, operations: int) -> None:
    pending = SimpleNamespace(size_bytes=200, group=SimpleNamespace(jobs=range(200)))
    state = SimpleNamespace(failure="disk full", intake=[pending] * groups, operations=range(operations))
    service = object.__new__(Service)
    service.state = cast("Any", state)
    assert service.clogged
    state.failure = None
    assert not service.clogged


def test_a_flood_while_the_store_cannot_commit_leaves_others_an_answer(tmp_path: Path) -> None:
    with Rig(tmp_path, [a_queue(tmp_path, workers=1)]) as rig:
        rig.start_keeper()
        holder = sqlite3.connect(rig.database, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        flood = socket.socket(socket.AF_UNIX)
        flood.connect(rig.socket)
        jobs = [{"payload": 1}] * 1_000
        for number in range(100):
            asked = {"v": 1, "id": number, "op": "enqueue", "queue": "q", "key": f"flood-{number}", "jobs": jobs}
            body = json.dumps(asked).encode()
            flood.sendall(struct.pack(">I", len(body)) + body)
        (length,) = struct.unpack(">I", flood.recv(4, socket.MSG_WAITALL))
        answer = json.loads(flood.recv(length, socket.MSG_WAITALL))
        assert answer["error"]["code"] == "busy"
        assert "locked" in answer["error"]["message"]
        assert rig.ask("status")["daemon"]["store"]
        holder.execute("ROLLBACK")
        holder.close()
        flood.close()
        rig.until(lambda: rig.ask("status")["daemon"]["store"] is None, what="a store that works")


def test_rows_of_a_relay_that_cannot_be_read_are_said_once_and_shown(tmp_path: Path) -> None:
    """Whatever a relay sends: its outbox does not stand still without a word."""
    with Rig(tmp_path) as rig:
        rig.spec = msgspec.structs.replace(rig.spec, outbox={"app": Outbox(name="app", database="/nowhere/app.db")})
        rig.start_keeper()
        mine, keepers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        rig.tell(control.RelayGiven("app"), [keepers.fileno()])
        keepers.close()
        link = control.Link(mine)

        def send(*rows: Any) -> None:
            fd = control.memory_file("outbox", msgspec.msgpack.encode(rows))
            link.send(control.OutboxRows(1, "instance"), [fd])
            os.close(fd)

        def standing() -> tuple[str, str | None]:
            found = rig.ask("status")["outboxes"]["app"]
            return found["state"], found["error"]

        link.send(control.OutboxState("moving"))
        send(["a1", "q", "null"])
        state, error = rig.until(lambda: (found := standing())[1] and found)
        assert (state, error) == ("failing", "its rows cannot be read: Expected `int`, got `str` - at `$[0][0]`")
        send(["a1", "q", "null"])
        send([1, "q", "null"])
        rig.until(lambda: standing() == ("moving", None))
        assert rig.log.count("outbox app: its rows, as its relay sent them, cannot be read: Expected `int`") == 1
        send(["a1", "q", "null"])
        rig.until(lambda: standing()[0] == "failing")
        link.send(control.OutboxState("idle"))
        rig.until(lambda: standing() == ("idle", None))
        link.close()
