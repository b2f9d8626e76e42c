"""The relay's parts by themselves: which rows come next, when to look, what a row holds."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from supervisor.config.spec import Outbox
from supervisor.observe.log import Log
from supervisor.relay.lines import FIRST, TRY_AGAIN_MAX_MS, TRY_AGAIN_MS, Lines
from supervisor.relay.main import PROGRESS_MS, SIGNALS, Relay
from supervisor.relay.pauses import CHANGED_MS, LOCKED_MAX_MS, LOCKED_SHOWN_MS, PAUSE_MS, Pauses
from supervisor.relay.table import KEPT, MEASURES_UNREAD, SQL, Locked, Table, Unusable, worded
from supervisor.relay.watch import GAP_MAX_MS, GAP_MS, Lookout
from supervisor.store.driver import sqlite3 as library
from supervisor.store.driver import sqlite_version
from supervisor.unix.clock import boot_ms, wall_ms
from supervisor.unix.inheritance import RelayInheritance
from supervisor.wire import control
from supervisor.wire.control import Link, memory_file, read_memory_file
from supervisor.wire.outbox import Row, Verdict, decode_rows, encode
from tests.support.outbox import Application
from tests.support.waiting import until

# --- pauses -----------------------------------------------------------------------------------------------------


def test_pauses_grow_up_to_a_bound_and_begin_anew_once_the_table_works() -> None:
    pauses, now_ms, taken = Pauses(), 0, []
    for _ in range(12):
        pauses.failed(now_ms, 10_000)
        taken.append(pauses.until_ms - now_ms)
        now_ms = pauses.until_ms
    assert taken == sorted(taken)
    assert (taken[0], taken[-1]) == (PAUSE_MS, 10_000)
    pauses.over()
    pauses.failed(now_ms, 10_000)
    assert pauses.until_ms == now_ms + PAUSE_MS


def test_a_change_of_the_file_shortens_the_pause_after_a_failure_and_not_that_of_a_lock() -> None:
    failing, locked = Pauses(), Pauses()
    for _ in range(10):
        failing.failed(0, 60_000)
        locked.locked(0)
    assert not failing.deaf(0)
    assert locked.deaf(0)
    for pauses in (failing, locked):
        pauses.changed()
    assert (failing.until_ms, locked.until_ms) == (CHANGED_MS, LOCKED_MAX_MS)
    assert failing.deaf(0)


def test_a_lock_is_shown_once_it_has_lasted() -> None:
    pauses = Pauses()
    assert not pauses.locked(5)
    assert not pauses.locked(4 + LOCKED_SHOWN_MS)
    assert pauses.locked(5 + LOCKED_SHOWN_MS)
    pauses.over()
    assert not pauses.locked(9_000)


# --- lines ------------------------------------------------------------------------------------------------------


def test_a_full_queue_is_tried_again_after_pauses_that_grow_up_to_a_bound() -> None:
    lines, now_ms, pauses = Lines(), 0, []
    lines.waits("q", 7, now_ms, tried=False)
    for _ in range(8):
        again_ms = lines.next_ms()
        assert again_ms is not None
        assert lines.due(again_ms - 1) is None
        assert lines.due(again_ms) == "q"
        pauses.append(again_ms - now_ms)
        now_ms = again_ms
        lines.waits("q", 7, now_ms, tried=True)
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (TRY_AGAIN_MS, TRY_AGAIN_MAX_MS)


def test_a_queue_that_took_some_goes_on_at_once_and_its_pauses_begin_anew() -> None:
    lines = Lines()
    lines.waits("q", 7, 0, tried=False)
    for now_ms in (100, 300, 700):
        lines.waits("q", 7, now_ms, tried=True)
    lines.went_on("q", 9, 1_000)
    assert (lines.due(1_000), lines.full["q"].row) == ("q", 10)
    lines.waits("q", 12, 1_000, tried=True)
    assert (lines.full["q"].row, lines.next_ms()) == (12, 1_000 + TRY_AGAIN_MS)
    lines.has_room("q")
    assert lines.next_ms() is None


def test_an_earlier_row_of_a_full_queue_comes_first() -> None:
    lines = Lines()
    lines.waits("q", 7, 0, tried=False)
    lines.waits("q", 3, 0, tried=False)
    lines.waits("q", 5, 0, tried=False)
    assert lines.full["q"].row == 3


def test_the_end_is_where_rows_end_and_never_before_what_was_read() -> None:
    lines = Lines()
    lines.end_at(None)
    assert lines.position == FIRST
    lines.end_at(9)
    lines.end_at(3)
    assert lines.position == 9


# --- when to look -----------------------------------------------------------------------------------------------


def test_a_write_is_followed_by_looks_at_growing_distances(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    lookout = Lookout(str(path), 1_000, 0)
    lookout.looked(0)
    assert lookout.look_ms == 1_000
    path.write_bytes(b"x")
    assert lookout.hear(500)
    found, now_ms = [], 500
    for _ in range(12):
        now_ms = lookout.look_ms
        found.append(now_ms)
        lookout.looked(now_ms)
    assert found[:4] == [500, 502, 504, 508]
    assert found[-1] - found[-2] == 1_000


def test_what_is_written_beside_the_database_is_not_heard_and_a_new_wal_is(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    lookout = Lookout(str(path), 1_000, 0)
    (tmp_path / "other").write_bytes(b"x")
    assert not lookout.hear(1)
    (tmp_path / "app.db-wal").touch()
    assert lookout.hear(2)
    (tmp_path / "app.db-wal").write_bytes(b"x")
    assert lookout.hear(3)
    (tmp_path / "new").touch()
    (tmp_path / "new").rename(path)
    assert lookout.hear(4)
    path.write_bytes(b"x")
    assert lookout.hear(5)


def test_another_path_is_followed_and_the_old_one_is_not_heard_any_more(tmp_path: Path) -> None:
    old, new = tmp_path / "old" / "app.db", tmp_path / "new" / "app.db"
    for path in (old, new):
        path.parent.mkdir()
        path.touch()
    lookout = Lookout(str(old), 1_000, 0)
    lookout.follow(str(new))
    lookout.hear(1)
    old.write_bytes(b"x")
    (old.parent / "other").touch()
    assert not lookout.hear(2)
    new.write_bytes(b"x")
    assert lookout.hear(3)


def test_a_folder_that_is_made_anew_is_heard(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "app.db"
    path.parent.mkdir()
    lookout = Lookout(str(path), 1_000, 0)
    path.parent.rmdir()
    lookout.hear(1)
    lookout.looked(1)
    path.parent.mkdir()
    lookout.looked(2)
    path.touch()
    assert lookout.hear(3)


def test_an_application_that_writes_elsewhere_all_the_time_is_looked_at_seldom(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    path.touch()
    lookout, now_ms, looks = Lookout(str(path), 1_000, 0), 0, []
    while now_ms < 400:
        path.write_bytes(b"x")
        lookout.hear(now_ms)
        if now_ms >= lookout.look_ms:
            looks.append(now_ms)
            lookout.looked(now_ms, changed=True)
        now_ms += 1
    gaps = [later - earlier for earlier, later in pairwise(looks)]
    assert (gaps[0], gaps[-1]) == (GAP_MS, GAP_MAX_MS)
    assert len(looks) < 20
    lookout.soon(now_ms)
    assert lookout.look_ms == now_ms
    lookout.looked(now_ms, changed=True)
    assert lookout.look_ms - now_ms == GAP_MS


def ask(application: Application, *statements: str) -> list[tuple[Any, ...]]:
    """What the application does beside an open table: two copies of SQLite in one process would see no locks."""
    with closing(library.connect(application.path, isolation_level=None)) as db:
        return [row for statement in statements for row in db.execute(statement).fetchall()]


# --- the table --------------------------------------------------------------------------------------------------


def test_rows_are_read_in_order_by_pages_and_without_full_queues(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with application.transaction() as db:
        rows = [("odd" if number % 2 else "even", str(number)) for number in range(1, 601)]
        db.executemany("INSERT INTO jobsup_outbox (queue, payload) VALUES (?, ?)", rows)
    table = Table(str(application.path), 1)
    assert [row.id for row, _ in table.page(FIRST, [])] == list(range(1, 257))
    assert [row.id for row, _ in table.page(590, ["odd"])] == [592, 594, 596, 598, 600]
    assert [row.id for row, _ in table.page_of_queue(595, "odd")] == [597, 599]
    read = {row.id: row for row, _ in table.page(590, [])}
    assert table.settle([read[592], Row(1_000, "odd", "1")], [(read[594], "no")]) == [592, 1_000]
    assert [row.id for row, _ in table.page(590, ["odd"])] == [596, 598, 600]
    assert [(row.id, row.error) for row, _ in table.page_refused(FIRST)] == [(594, "no")]
    assert table.counts() == (598, 1)
    assert table.refusals() == ((594, "even", "no"),)
    assert table.gone([591, 592, 594, 601]) == [592, 601]


def test_what_tells_rows_apart_is_all_that_the_application_wrote() -> None:
    row = Row(1, "q", "1", None, "5", None)
    others = [Row(1, "r", "1", None, "5"), Row(1, "q", "2", None, "5"), Row(1, "q", "1", "", "5"),
              Row(1, "q", "1", None, "6"), Row(1, "q", "1", None, None), Row(1, "q1", "", None, "5")]  # fmt: skip
    assert len({row.digest, *(other.digest for other in others)}) == 7
    assert row.digest == Row(2, "q", "1", None, "5", "refused").digest


def test_an_outbox_is_claimed_by_one_number_for_good(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    instance = Table(str(application.path), 1).instance
    assert Table(str(application.path), 1).instance == instance
    with pytest.raises(Unusable, match="another jobsup"):
        Table(str(application.path), 2)


def test_a_row_that_is_another_one_by_now_is_neither_deleted_nor_marked(tmp_path: Path) -> None:
    """A backup is put back into the file while its rows are under way, and their ids are given to new rows."""
    application = Application(tmp_path / "app.db")
    for number in range(4):
        application.put("q", number)
    table = Table(str(application.path), 1)
    first, second, third, fourth = [row for row, _ in table.page(FIRST, [])]
    ask(application, "UPDATE jobsup_outbox SET payload = '5' WHERE id IN (1, 3)")
    assert table.settle([first, second], [(third, "no"), (fourth, "no")]) == [2]
    assert ask(application, "SELECT id, error FROM jobsup_outbox") == [(1, None), (3, None), (4, "no")]


def test_a_row_that_the_application_has_deleted_is_gone_once_that_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it commits without syncing, a power loss takes back: the row must be known until then."""
    application = Application(tmp_path / "app.db")
    for number in range(4):
        application.put("q", number)
    table = Table(str(application.path), 1)
    first, second, third, fourth = [row for row, _ in table.page(FIRST, [])]
    ask(
        application, "DELETE FROM jobsup_outbox WHERE id IN (1, 4)", "UPDATE jobsup_outbox SET queue = 'r' WHERE id = 2"
    )
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    assert table.settle([first, second, third], [(fourth, "no")]) == [1, 3]
    assert len(synced) == 1
    assert table.gone([1, 2]) == [1]
    assert len(synced) == 2
    assert ask(application, "SELECT id, error FROM jobsup_outbox") == [(2, None)]


@pytest.mark.parametrize(
    ("overwrite", "said"),
    [
        ("UPDATE jobsup_outbox_instance SET instance = 'other'", "holds another outbox"),
        ("DELETE FROM jobsup_outbox_instance", "holds another outbox"),
        ("UPDATE jobsup_outbox_instance SET owner = 2", "another jobsup"),
        ("UPDATE jobsup_outbox_instance SET owner = NULL", "another jobsup"),
    ],
)
def test_an_outbox_that_is_another_one_by_now_is_noticed_in_the_same_transaction(
    tmp_path: Path, overwrite: str, said: str
) -> None:
    application = Application(tmp_path / "app.db")
    application.put("q", 1)
    table = Table(str(application.path), 1)
    ((row, _),) = table.page(FIRST, [])
    ask(application, overwrite)
    with pytest.raises(Unusable, match=said):
        table.settle([row], [])
    with pytest.raises(Unusable, match=said):
        table.page(FIRST, [])
    assert ask(application, "SELECT count(*) FROM jobsup_outbox") == [(1,)]


@pytest.mark.parametrize(
    ("event", "said"), [("DELETE", "keeps row 1 of jobsup_outbox .* drop that trigger"), ("UPDATE", "keeps error")]
)
def test_a_row_that_a_trigger_keeps_is_not_taken_for_gone(tmp_path: Path, event: str, said: str) -> None:
    application = Application(tmp_path / "app.db")
    for number in range(3):
        application.put("q", number)
    application.ask(
        f"CREATE TRIGGER keeps BEFORE {event} ON jobsup_outbox WHEN OLD.id < 3 BEGIN SELECT RAISE(IGNORE); END"
    )
    table = Table(str(application.path), 1)
    first, second, third = [row for row, _ in table.page(FIRST, [])]
    with pytest.raises(Unusable, match=said):
        table.settle([third, first], [(second, "no")])
    assert ask(application, "SELECT id, error FROM jobsup_outbox") == [(1, None), (2, None), (3, None)]
    ask(application, "DROP TRIGGER keeps")
    assert table.settle([third, first], [(second, "no")]) == [3, 1]


@pytest.mark.parametrize(
    "words", ["the order is locked", "the press is busy", "readonly", "unable to open the box", "no such index"]
)
def test_the_words_of_a_trigger_are_said_as_they_are(tmp_path: Path, words: str) -> None:
    application = Application(tmp_path / "app.db")
    application.put("q", 1)
    application.ask(f"CREATE TRIGGER keeps BEFORE DELETE ON jobsup_outbox BEGIN SELECT RAISE(ABORT, '{words}'); END")
    table = Table(str(application.path), 1)
    ((row, _),) = table.page(FIRST, [])
    with pytest.raises(Unusable, match=f"app.db: {words}$"):
        table.settle([row], [])


@pytest.mark.parametrize(
    ("instance", "said"),
    [
        ("CAST(x'fffe' AS TEXT)", "is not UTF-8"),
        ("hex(zeroblob(3000000))", "has 6000000 bytes, the limit is 200"),
    ],
)
def test_an_instance_that_is_none_is_said_with_what_to_do(tmp_path: Path, instance: str, said: str) -> None:
    application = Application(tmp_path / "app.db")
    table = Table(str(application.path), 1)
    ask(application, f"UPDATE jobsup_outbox_instance SET instance = {instance}")
    with pytest.raises(Unusable, match=f"{said}; for a new one: DELETE FROM jobsup_outbox_instance"):
        Table(str(application.path), 1)
    with pytest.raises(Unusable, match="another outbox"):
        table.page(FIRST, [])
    ask(application, "DELETE FROM jobsup_outbox_instance")
    assert len(Table(str(application.path), 1).instance) == 32


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "app.db")
    with pytest.raises(Unusable, match="no regular file"):
        Table(str(tmp_path / "app.db"), 1)


def test_a_page_is_bounded_whatever_column_is_large(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with application.transaction() as db:
        rows = [("q", '{"a": "' + "x" * 2_000_000 + '"}', "x" * 65_536)] * 5
        db.executemany("INSERT INTO jobsup_outbox (queue, payload, options) VALUES (?, ?, ?)", rows)
        db.execute("INSERT INTO jobsup_outbox (queue, created_at) VALUES (?, ?)", ("q" * 5_000_000, "y" * 5_000_000))
        db.execute("INSERT INTO jobsup_outbox (queue, options) VALUES ('q', ?)", ("x" * 65_537,))
    table = Table(str(application.path), 1)
    assert [row.id for row, _ in table.page(FIRST, [])] == [1, 2, 3]
    (row, wrong), (other, wrong_options) = table.page(5, [])
    assert (other.options, wrong_options) == (None, "options has 65537 bytes, the limit is 65536")
    assert wrong == "queue has 5000000 bytes, the limit is 1000"
    assert len(row.created or "") == 40
    table.settle([], [(row, wrong)])
    assert ask(application, "SELECT error FROM jobsup_outbox WHERE id = 6") == [(wrong,)]


READS_A_PAGE = """
import re, sys
from pathlib import Path
from supervisor.relay.table import Table

def peak_kib():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

table = Table(sys.argv[1], 1)
before = peak_kib()
((row, wrong),) = table.page(0, [])
print(wrong, peak_kib() - before)
"""


@pytest.mark.skipif(sqlite_version < MEASURES_UNREAD, reason="this SQLite reads a value to measure it")
def test_a_payload_that_is_too_large_is_measured_unread(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    application.ask("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', CAST(zeroblob(100000000) AS TEXT))")
    command = [sys.executable, "-c", READS_A_PAGE, str(application.path)]
    said, _, more_kib = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition(" ")
    assert said == "payload has 100000000 bytes, the limit is 16777216"
    assert int(more_kib) < 30_000


def test_an_older_library_measures_the_same(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    rows = [("q", "ä" * 9, None), ("q" * 1_001, "1", "{}"), ("q", 7.5, "x" * 65_537), (7, b"\xff", "ö" * 32_768)]
    with application.transaction() as db:
        db.executemany("INSERT INTO jobsup_outbox (queue, payload, options) VALUES (?, ?, ?)", rows)
    values, found = (FIRST, "[]", 256, 10), []
    for statement in (SQL.page, worded(SQL.page, (3, 42))):
        with closing(library.connect(application.path)) as db:
            db.text_factory = bytes
            found.append(db.execute(statement, values).fetchall())
    assert found[0] == found[1]
    assert [list(row[2:7:2]) for row in found[0]] == [
        [1, 18, None], [1_001, 1, 2], [1, 3, 65_537], [1, 1, 65_536],
    ]  # fmt: skip


def test_a_symbolic_link_that_leads_elsewhere_is_another_file(tmp_path: Path) -> None:
    one, _two = Application(tmp_path / "one.db"), Application(tmp_path / "two.db")
    link = tmp_path / "app.db"
    link.symlink_to(one.path)
    table = Table(str(link), 1)
    assert not table.replaced
    link.unlink()
    link.symlink_to(tmp_path / "two.db")
    assert table.replaced
    kept = len(KEPT)
    table.leave()
    assert len(KEPT) == kept, "the file has its name still, and may be closed"


def test_a_lock_of_the_application_is_no_fault(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    application.put("q", 1)
    table = Table(str(application.path), 1)
    db = library.connect(application.path, isolation_level=None)  # two copies of SQLite in one process see no locks
    db.execute("BEGIN IMMEDIATE")
    ((row, _),) = table.page(FIRST, [])
    assert row.id == 1
    with pytest.raises(Locked):
        table.settle([row], [])
    db.execute("ROLLBACK")
    assert table.settle([row], []) == [1]
    assert application.rows() == []


def test_a_wal_that_was_taken_away_is_noticed(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    table = Table(str(application.path), 1)
    assert not table.replaced
    (tmp_path / "app.db-wal").unlink()
    assert table.replaced
    table.leave()


def test_a_connection_to_a_file_that_lost_its_name_leaves_the_wal_of_the_next_one_alone(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    table = Table(str(application.path), 1)
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"app.db{suffix}").unlink(missing_ok=True)
    application.make()
    db = application.connect()
    db.execute("INSERT INTO jobsup_outbox (queue) VALUES ('q')")
    assert table.replaced
    kept = len(KEPT)
    table.leave()
    assert len(KEPT) == kept + 1
    assert os.path.getsize(tmp_path / "app.db-wal") > 0
    with sqlite3.connect(application.path) as other:
        assert other.execute("SELECT count(*) FROM jobsup_outbox").fetchone() == (1,)


# --- the loop ---------------------------------------------------------------------------------------------------


class Played(NamedTuple):
    """A relay, a turn at a time, with a test in the keeper's place that has no room in the queue `full`."""

    relay: Relay
    keeper: Link

    def turn(self) -> None:
        """One turn of its loop, and the keeper's answer."""
        relay = self.relay
        relay._listen(boot_ms())
        for key, _ in relay._selector.select(min(0.01, relay._timeout_s())):
            key.data()
        relay._turn(boot_ms())
        for message, descriptors in self.keeper.receive():
            if isinstance(message, control.OutboxOpened):
                self.keeper.send(control.OutboxKnown(message.instance, ()))
            elif isinstance(message, control.OutboxRows):
                rows = decode_rows(read_memory_file(descriptors.pop()))
                fd = memory_file("outbox", encode([Verdict(None if row.queue == "full" else row.id) for row in rows]))
                self.keeper.send(control.OutboxTaken(message.number), [fd])
                os.close(fd)

    def until(self, condition: Callable[[], object]) -> None:
        """Turn until that is so."""
        until(lambda: self.turn() or condition())


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    """A relay that nobody has spoken to; the signals of this process are put back afterwards."""
    handlers, wakeup = {number: signal.getsignal(number) for number in SIGNALS}, signal.set_wakeup_fd(-1)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in ("master", "keeper")]
    outbox = Outbox(name="app", database=str(tmp_path / "app.db"), interval_ms=600_000)
    log = Log(str(tmp_path / "log"), "info", "text", wall_ms)
    try:
        relay = Relay(RelayInheritance(outbox, pairs[0][0], pairs[1][0], log), os.getppid())
        yield Played(relay, Link(pairs[1][1]))
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for _, other in pairs:
            other.close()


def test_a_relay_that_no_keeper_has_greeted_sleeps(played: Played) -> None:
    """It has something to tell, and nobody to tell it."""
    played.relay._turn(boot_ms())
    assert played.relay._timeout_s() > PROGRESS_MS / 2_000


def test_what_waits_for_a_full_queue_is_not_read_again_for_every_commit_elsewhere(
    tmp_path: Path, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    application, relay = Application(tmp_path / "app.db"), played.relay
    with application.transaction() as db:
        db.executemany("INSERT INTO jobsup_outbox (queue) VALUES (?)", [("full",)] * 5)
    read, real = [], Table.page
    monkeypatch.setattr(Table, "page", lambda self, after, without: read.append(after) or real(self, after, without))
    played.keeper.send(control.OutboxOwner(1))
    played.until(lambda: relay._lines.full and not relay._dirty and relay._group is None)
    read.clear()
    for _ in range(10):
        read_before = len(read)
        ask(application, "INSERT INTO done DEFAULT VALUES")
        played.until(lambda before=read_before: len(read) > before)
    assert set(read) == {5}, "there is nothing else behind the last row"
    ask(application, "INSERT INTO jobsup_outbox (queue) VALUES ('other')")
    played.until(lambda: ask(application, "SELECT max(id) FROM jobsup_outbox") == [(5,)])
    played.until(lambda: relay._lines.full["full"].pause_ms >= 4 * TRY_AGAIN_MS)
    assert FIRST not in read, "trying a full queue in vain is no reason either"


def test_a_row_before_those_that_wait_is_found_by_the_next_look_at_all_of_them(tmp_path: Path, played: Played) -> None:
    """The application gives it an id itself, or clears its error."""
    application, relay = Application(tmp_path / "app.db"), played.relay
    ask(application, "INSERT INTO jobsup_outbox (id, queue) VALUES (100, 'full'), (101, 'full')")
    played.keeper.send(control.OutboxOwner(1))
    played.until(lambda: relay._lines.full and not relay._dirty and relay._group is None)
    ask(application, "INSERT INTO jobsup_outbox (id, queue) VALUES (7, 'other')")
    played.until(lambda: relay._dirty)
    assert relay._due_ms() <= relay._sweep_at_ms
    relay._sweep_at_ms = boot_ms()
    played.until(lambda: ask(application, "SELECT id FROM jobsup_outbox") == [(100,), (101,)])
