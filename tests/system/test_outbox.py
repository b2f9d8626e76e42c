"""Rows that an application commits become jobs, each one, and what cannot be one stays and says why."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.relay.table import SCHEMA
from tests.support.daemon import Daemon
from tests.support.outbox import Application, payloads, remembered
from tests.support.waiting import gone, until

APP = {"tasks.py": "def run(job):\n    return job.payload\n"}
TOML = """
[daemon]
python_path = ["../app"]
[defaults]
workers = 1
[[outbox]]
database = "../app.db"
interval = "100ms"
{more}
[queues.q]
handler = "tasks:run"
"""


def toml(more: str = "", queues: str = "") -> str:
    return TOML.format(more=more) + queues


def status_of(daemon: Daemon, name: str = "app") -> dict[str, Any]:
    found: dict[str, Any] = asked(daemon, "status")["outboxes"][name]
    return found


def trouble(daemon: Daemon, name: str = "app") -> str:
    """What the relay of an outbox says is wrong, once it says so."""
    error: str = until(lambda: (one := status_of(daemon, name))["state"] != "unknown" and one["error"])
    return error


def asked(daemon: Daemon, op: str) -> dict[str, Any]:
    """What the daemon answers; no process is started for it."""
    with daemon.client(one_shot=False, timeout=20) as client:
        found: dict[str, Any] = client.request(op)
        return found


def pid_of(daemon: Daemon, role: str = "relay") -> int:
    """The one process of a role."""
    nodes = until(lambda: [node for node in asked(daemon, "tree")["tree"] if node["role"] == role and node["pid"]])
    return int(nodes[0]["pid"])


def stopped(pid: int) -> bool:
    """Whether a process was stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def empty(application: Application, daemon: Daemon, timeout: float = 15) -> None:
    """Wait until no row is left, and none is remembered."""
    until(lambda: not application.rows() and not remembered(daemon.database), timeout, "an empty outbox")


def test_a_committed_row_is_a_job_and_a_row_rolled_back_is_none(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", {"n": 1}, '{"tags": ["from:app"], "max_attempts": 2}')
        db = application.connect()
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', '{\"n\": 2}')")
        db.execute("ROLLBACK")
        db.close()
        application.put("q", {"n": 3})
        empty(application, daemon)
        assert payloads(daemon.database, "q") == [{"n": 1}, {"n": 3}]
        job = daemon.wait_state(1, "completed")
        assert (job["tags"], job["max_attempts"], job["result"]) == (["from:app"], 2, {"n": 1})
        until(lambda: status_of(daemon)["state"] == "idle")
        found = status_of(daemon)
        assert (found["error"], found["waiting"], found["refused"], found["moved"]) == (None, 0, 0, 2)
        assert found["last_moved_at"] is not None


def kill_role(daemon: Daemon, role: str) -> int:
    """SIGKILL the one process of a role; its pid."""
    pid = pid_of(daemon, role)
    os.kill(pid, signal.SIGKILL)
    gone(pid)
    return pid


# --- rows that cannot become jobs -----------------------------------------------------------------------------

FOUL: list[tuple[Any, Any, Any, str]] = [
    ("nowhere", "1", None, "there is no queue nowhere"),
    ("shop/q", "1", None, "there is no queue shop/q"),
    ("q", "{", None, "JSON"),
    ("q", "NaN", None, "JSON"),
    ("q", b"\xff\xfe", None, "payload is not UTF-8"),
    (7, "1", None, "there is no queue 7"),
    ("q", 7.5, None, "7.5"),
    ("q", "1", "[]", "options"),
    ("q", "1", "{", "options"),
    ("q", "1", '{"prio": 3}', "prio is no option of a job"),
    ("q", "1", '{"delay": "soon"}', "delay"),
    ("q", "1", '{"priority": 3}', "does not order by priority"),
    ("q", "1", '{"tags": 5}', "tags"),
    ("q", "1", "[" * 60_000, "options"),
    ("q", "1", '{"tags": ["' + "x" * 100_000 + '"]}', "options has 100014 bytes, the limit is 65536"),
    ("q", '"' + "x" * 2_000_000 + '"', None, "max_payload"),
    ("q", '"' + "x" * 17_000_000 + '"', None, "payload has 17000002 bytes"),
    ("closed", "1", None, "outbox app has no rows for closed"),
]
FOUL_ONES = [foul for foul in FOUL if foul[1] != 7.5]


def test_rows_that_cannot_become_jobs_stay_with_their_errors_and_stop_no_others(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    closed = '[queues.closed]\nhandler = "tasks:run"\n'
    with Daemon(tmp_path, toml('queues = ["q", "nowhere", "shop", "7"]', closed), app=APP) as daemon:
        rows = {}
        for number, (queue, payload, options, error) in enumerate(FOUL_ONES):
            rows[application.put(queue, payload, options, raw=True)] = error
            application.put("q", number)
        until(lambda: len(payloads(daemon.database, "q")) == len(FOUL_ONES), 20, "the good rows")
        assert payloads(daemon.database, "q") == list(range(len(FOUL_ONES)))
        until(lambda: len(application.rows()) == len(rows) and all(error for _, _, error in application.rows()))
        for row, expected in rows.items():
            assert expected in (application.error_of(row) or ""), (row, application.error_of(row))
        until(lambda: not remembered(daemon.database))
        found = until(lambda: (one := status_of(daemon))["refused"] == len(rows) and one)
        assert (found["waiting"], found["error"]) == (0, None)
        assert [refusal["id"] for refusal in found["refusals"]] == list(rows)[:20]
        assert "fault" not in daemon.log
        first = next(iter(rows))
        assert daemon.log.count(f"row {first} for nowhere cannot become a job") == 1
        listed = daemon.ctl("outbox", "list")
        assert listed.rows[0][:4] == ["app", "idle", "0", str(len(rows))]
        doctor = daemon.ctl("doctor", "--json").json
        assert any(one["name"] == "outbox_refused" for one in doctor["findings"])
        assert "outbox app has refused" in daemon.ctl("status").err


def test_a_number_where_text_should_be_is_refused(tmp_path: Path) -> None:
    """The type of a column without a text affinity: a table that the application has made by itself."""
    application = Application(tmp_path / "app.db")
    with application.transaction() as db:
        db.execute("DROP TABLE jobsup_outbox")
        db.executescript(SCHEMA.read_text().replace("TEXT", "BLOB"))
        db.execute("BEGIN")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        row = application.put("q", 7.5, raw=True)
        assert until(lambda: application.error_of(row)) == "payload is a number, and must be text"
        application.put("q", b'{"blob": true}', raw=True)
        until(lambda: payloads(daemon.database, "q") == [{"blob": True}])


def test_refused_rows_are_tried_again_when_the_configuration_changes_or_their_error_is_cleared(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        early, bad = application.put("later", 1), application.put("q", "{", raw=True)
        until(lambda: application.error_of(early) and application.error_of(bad))
        lines = daemon.log.count("cannot become a job")
        daemon.configure(toml("", '[queues.later]\nhandler = "tasks:run"\n'))
        assert daemon.ctl("reload").status == 0
        until(lambda: payloads(daemon.database, "later") == [1])
        assert [row for row, *_ in application.rows()] == [bad]
        assert daemon.log.count("cannot become a job") == lines, "what was said is not said again"
        with application.transaction() as db:
            db.execute("UPDATE jobsup_outbox SET payload = '2', error = NULL WHERE id = ?", (bad,))
        until(lambda: payloads(daemon.database, "q") == [2])
        empty(application, daemon)


# --- queues that are full -------------------------------------------------------------------------------------


def test_rows_for_a_full_queue_wait_in_their_order_and_others_pass(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    narrow = '[queues.narrow]\nhandler = "tasks:run"\nmax_size = 3\n'
    with Daemon(tmp_path, toml("", narrow), app=APP) as daemon:
        assert daemon.ctl("pause", "narrow").status == 0
        with application.transaction() as db:
            for number in range(120):
                queue = "narrow" if number % 2 else "q"
                db.execute("INSERT INTO jobsup_outbox (queue, payload) VALUES (?, ?)", (queue, str(number)))
        until(lambda: len(payloads(daemon.database, "q")) == 60)
        assert payloads(daemon.database, "narrow") == [1, 3, 5]
        found = until(lambda: (one := status_of(daemon))["state"] == "waiting" and one)
        assert (found["full"], found["waiting"], found["refused"]) == (["narrow"], 57, 0)
        assert daemon.ctl("resume", "narrow").status == 0
        empty(application, daemon, 60)
        assert payloads(daemon.database, "narrow") == list(range(1, 120, 2))


def test_rows_before_those_of_a_full_queue_go_within_the_interval(tmp_path: Path) -> None:
    """The application gives ids itself, and clears errors."""
    application = Application(tmp_path / "app.db")
    narrow = '[queues.narrow]\nhandler = "tasks:run"\nmax_size = 1\n'
    with Daemon(tmp_path, toml("", narrow), app=APP) as daemon:
        assert daemon.ctl("pause", "narrow").status == 0
        bad = application.put("q", "{", raw=True)
        with application.transaction() as db:
            db.executemany("INSERT INTO jobsup_outbox (id, queue) VALUES (?, 'narrow')", [(n,) for n in range(50, 60)])
        until(lambda: status_of(daemon)["state"] == "waiting" and application.error_of(bad))
        with application.transaction() as db:
            db.execute("INSERT INTO jobsup_outbox (id, queue, payload) VALUES (20, 'q', '20')")
        until(lambda: payloads(daemon.database, "q") == [20])
        with application.transaction() as db:
            db.execute("UPDATE jobsup_outbox SET payload = '1', error = NULL WHERE id = ?", (bad,))
        until(lambda: payloads(daemon.database, "q") == [20, 1])
        assert daemon.ctl("resume", "narrow").status == 0
        empty(application, daemon, 30)
        assert len(payloads(daemon.database, "narrow")) == 10


# --- idempotency keys -----------------------------------------------------------------------------------------


def test_a_row_with_an_idempotency_key_is_the_first_job_with_it(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    narrow = '[queues.narrow]\nhandler = "tasks:run"\nmax_size = 1\n'
    with Daemon(tmp_path, toml("", narrow), app=APP) as daemon:
        with daemon.client(one_shot=False, timeout=20) as client:
            first = client.enqueue("q", "client", idempotency_key="a")
        key = '{"idempotency_key": "%s"}'
        rows = [("0", None), ("1", key % "a"), ("2", key % "b"), ("3", None), ("4", key % "b"), ("5", key % "c")]
        with application.transaction() as db:
            db.executemany("INSERT INTO jobsup_outbox (queue, payload, options) VALUES ('q', ?, ?)", rows)
        empty(application, daemon)
        assert payloads(daemon.database, "q") == ["client", 0, 2, 3, 5]
        with daemon.client(one_shot=False, timeout=20) as client:
            again = [client.enqueue("q", "again", idempotency_key=name) for name in "abc"]
        assert again == [first, first + 2, first + 4]
        assert daemon.wait_state(again[1], "completed")["idempotency_key"] == "b"
        assert daemon.ctl("pause", "narrow").status == 0
        for number in range(2):
            application.put("narrow", number, key % "one")
        empty(application, daemon)
        assert payloads(daemon.database, "narrow") == [0], "what is there needs no room"
        foul = application.put("q", 6, '{"idempotency_key": "a\\nb"}')
        assert "idempotency_key must be" in until(lambda: application.error_of(foul))


# --- databases as they may be ---------------------------------------------------------------------------------


def test_an_outbox_that_is_not_there_yet_is_taken_up_once_it_is(tmp_path: Path) -> None:
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        assert "No such file or directory; let the application create it, or correct database" in trouble(daemon)
        (tmp_path / "app.db").touch()
        assert "has no table jobsup_outbox; make it with: jobsctl outbox sql" in until(
            lambda: (error := status_of(daemon)["error"]) and "table" in error and error
        )
        Application(tmp_path / "app.db").put("q", 1)
        until(lambda: payloads(daemon.database, "q") == [1])
        until(lambda: status_of(daemon)["error"] is None)


NO_NUMBERS = SCHEMA.read_text().replace("id INTEGER", "n INTEGER").replace("queue TEXT", "id TEXT, queue TEXT")
"""What counts up is another column than `id`."""


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        ("ALTER TABLE jobsup_outbox DROP COLUMN options", "has no column options"),
        ("DROP INDEX jobsup_outbox_waiting", "has no index jobsup_outbox_waiting"),
        (f"DROP TABLE jobsup_outbox; {SCHEMA.read_text().replace('AUTOINCREMENT', '')}", "is not AUTOINCREMENT"),
        (f"DROP TABLE jobsup_outbox; {NO_NUMBERS}", "is not INTEGER PRIMARY KEY"),
        ("DROP TABLE jobsup_outbox_instance", "has no table jobsup_outbox_instance"),
    ],
)  # fmt: skip
def test_a_wrong_schema_is_said_and_tried_again(tmp_path: Path, break_it: str, said: str) -> None:
    application = Application(tmp_path / "app.db")
    with application.transaction() as db:
        db.execute("COMMIT")
        db.executescript(break_it)
        db.execute("BEGIN")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        assert said in trouble(daemon)
        assert daemon.log.count(said) == 1
        with application.transaction() as db:
            db.execute("DROP TABLE jobsup_outbox")
        application.make()
        application.put("q", 1)
        until(lambda: payloads(daemon.database, "q") == [1])
        doctor = daemon.ctl("doctor", "--json").json
        assert not [one for one in doctor["findings"] if one["name"].startswith("outbox")]


def test_a_file_that_is_no_database_is_said_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "app.db").write_bytes(b"no database at all" * 1_000)
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        assert "file is not a database" in trouble(daemon)
        assert "outbox_stuck" in daemon.ctl("doctor").out
        assert "outbox app does not move" in daemon.ctl("status").err
        (tmp_path / "app.db").unlink()
        Application(tmp_path / "app.db").put("q", 1)
        until(lambda: payloads(daemon.database, "q") == [1])


def test_a_damaged_table_is_said_and_ends_nobody(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db", mode="delete")
    with application.transaction() as db:
        db.executemany("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', ?)", [("1" * 900,)] * 100)
    size = application.path.stat().st_size
    with application.path.open("r+b") as file:
        file.seek(4096 * 6)
        file.write(b"\xaa" * (size - 4096 * 6))
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        assert "malformed" in trouble(daemon)
        daemon.enqueue("q", 1)
        assert daemon.ctl("tree", "--json").status == 0


FAILS = "CREATE TRIGGER keeper BEFORE DELETE ON jobsup_outbox BEGIN SELECT RAISE(ABORT, 'rows are kept'); END"


def test_what_fails_is_tried_again_when_the_file_changes_however_long_the_interval(tmp_path: Path) -> None:
    with Daemon(tmp_path, toml().replace("100ms", "10m"), app=APP) as daemon:
        assert "No such file" in trouble(daemon)
        until_s = time.monotonic() + 11
        while time.monotonic() < until_s:  # each failure makes the pause longer
            (tmp_path / "app.db").write_bytes(b"no database at all" * 100)
            time.sleep(0.05)
        (tmp_path / "app.db").unlink()
        Application(tmp_path / "app.db").put("q", 1)
        changed_s = time.monotonic()
        until(lambda: payloads(daemon.database, "q") == [1])
        assert time.monotonic() - changed_s < 3
        until(lambda: status_of(daemon)["error"] is None)


@pytest.mark.parametrize("end", ["DROP TRIGGER keeper", "DROP TRIGGER keeper; DELETE FROM jobsup_outbox"])
def test_rows_that_cannot_be_deleted_are_said_once_and_tried_at_growing_distances(tmp_path: Path, end: str) -> None:
    application = Application(tmp_path / "app.db")
    application.ask(FAILS)
    with Daemon(tmp_path, toml().replace("100ms", "500ms"), app=APP) as daemon:
        application.put("q", 1)
        assert "rows are kept" in trouble(daemon)
        opened = daemon.log.count("app.db is open")
        seen = set()
        until_s = time.monotonic() + 3
        while time.monotonic() < until_s:
            seen.add((one := status_of(daemon))["state"])
            assert "rows are kept" in (one["error"] or ""), one
            time.sleep(0.02)
        assert seen == {"failing"}
        assert daemon.log.count("rows are kept") == 1
        assert daemon.log.count("app.db is open") == opened
        assert payloads(daemon.database, "q") == [1]
        with closing(application.connect()) as db:
            db.executescript(end)
        until(lambda: (one := status_of(daemon))["state"] == "idle" and one["error"] is None)
        empty(application, daemon)
        application.put("q", 2)
        until(lambda: payloads(daemon.database, "q") == [1, 2])


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_locked_database_is_waited_for(tmp_path: Path, mode: str) -> None:
    application = Application(tmp_path / "app.db", mode=mode)
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", 1)
        empty(application, daemon)
        db = application.connect()
        db.execute("BEGIN EXCLUSIVE")
        db.execute("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', '2')")
        if mode == "delete":
            assert "locked by another program" in trouble(daemon)
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")  # rows can be read, and not be deleted
        until(lambda: payloads(daemon.database, "q") == [1, 2])
        until(lambda: status_of(daemon)["state"] == "locked", what="a relay that waits")
        db.execute("ROLLBACK")
        db.close()
        empty(application, daemon)
        until(lambda: status_of(daemon)["state"] == "idle")
        assert payloads(daemon.database, "q") == [1, 2]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_database_that_may_not_be_written_gives_no_jobs(tmp_path: Path, mode: str) -> None:
    """Whoever could not delete a row must not take it, nor make a WAL that the application could not write."""
    application = Application(tmp_path / "app.db", mode=mode)
    application.put("q", 1)
    application.path.chmod(0o444)
    place = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all")
    with Daemon(tmp_path, toml(), app=APP, prefix=place) as daemon:
        assert "is read-only for this user" in trouble(daemon)
        assert payloads(daemon.database, "q") == []
        assert [path.name for path in tmp_path.glob("app.db*")] == ["app.db"]
        application.path.chmod(0o666)
        until(lambda: payloads(daemon.database, "q") == [1])
        empty(application, daemon)


@pytest.mark.parametrize("way", ["renamed over", "removed first"])
def test_a_file_in_the_place_of_another_is_another_outbox(tmp_path: Path, way: str) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", "old 1")
        empty(application, daemon)
        other = Application(tmp_path / "other.db")
        other.put("q", "new 1")
        with closing(other.connect()) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in ("", "-wal", "-shm") if way == "removed first" else ("-wal", "-shm"):
            (tmp_path / f"app.db{suffix}").unlink(missing_ok=True)
        other.path.rename(application.path)
        until(lambda: payloads(daemon.database, "q") == ["old 1", "new 1"], 15, "the row of the new file")
        application.put("q", "new 2")
        until(lambda: payloads(daemon.database, "q") == ["old 1", "new 1", "new 2"])
        empty(application, daemon)


def test_a_file_put_back_from_a_backup_gives_its_rows_again_and_loses_none(tmp_path: Path) -> None:
    """Rows of the backup have ids that were used since; by their content they are others."""
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        daemon.stop()
        backup = tmp_path / "backup.db"
        with closing(application.connect()) as db:
            db.execute("VACUUM INTO ?", (str(backup),))
        application.put("q", "lost with the file")
        daemon.start(env={"JOBSUP_FAILPOINTS": "relay.before_delete=stop"})
        until(lambda: remembered(daemon.database) == [1], what="a row between its commit and its deletion")
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / f"app.db{suffix}").unlink(missing_ok=True)
        backup.rename(application.path)
        assert application.put("q", "after the backup") == 1
        kill_role(daemon, "relay")
        until(lambda: payloads(daemon.database, "q") == ["lost with the file", "after the backup"])
        daemon.quit()


def stopped_before_deletion(daemon: Daemon) -> int:
    """The relay, once it stands between the commit of its first jobs and the deletion of their rows."""
    until(lambda: remembered(daemon.database), what="a row between its commit and its deletion")
    return int(
        until(lambda: next((n["pid"] for n in daemon.ctl("tree", "--json").lines if n["role"] == "relay"), None))
    )


def test_a_backup_put_back_into_the_file_under_a_relay_loses_no_new_row(tmp_path: Path) -> None:
    """As `.restore` does it: the file stays, and what was a job is there no more, but another row of its id."""
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP, env={"JOBSUP_FAILPOINTS": "relay.before_delete=stop"}) as daemon:
        application.put("q", "lost with the restore")
        relay = stopped_before_deletion(daemon)
        with application.transaction() as db:
            db.execute("DELETE FROM jobsup_outbox")
            db.execute("DELETE FROM sqlite_sequence")
        assert application.put("q", "after the restore") == 1
        os.kill(relay, signal.SIGCONT)
        empty(application, daemon)
        assert payloads(daemon.database, "q") == ["lost with the restore", "after the restore"]


def test_a_copy_in_the_place_of_a_file_doubles_no_row_that_is_under_way(tmp_path: Path) -> None:
    """The rows of the copy have been jobs before the relay sees that it is another file."""
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP, env={"JOBSUP_FAILPOINTS": "relay.before_delete=stop"}) as daemon:
        application.put("q", 1)
        relay = stopped_before_deletion(daemon)
        with closing(application.connect()) as db:
            db.execute("VACUUM INTO ?", (str(tmp_path / "copy.db"),))
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"app.db{suffix}").unlink(missing_ok=True)
        (tmp_path / "copy.db").rename(application.path)
        os.kill(relay, signal.SIGCONT)
        empty(application, daemon)
        assert payloads(daemon.database, "q") == [1]


def test_a_row_that_the_application_deletes_under_way_is_not_remembered_for_ever(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP, env={"JOBSUP_FAILPOINTS": "relay.before_delete=stop"}) as daemon:
        row = application.put("q", 1)
        relay = stopped_before_deletion(daemon)
        application.ask("DELETE FROM jobsup_outbox WHERE id = ?", row)
        os.kill(relay, signal.SIGCONT)
        empty(application, daemon)
        assert payloads(daemon.database, "q") == [1]


def test_a_link_that_is_led_elsewhere_is_followed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Application(tmp_path / f"{name}.db").put("q", name)
    (tmp_path / "app.db").symlink_to("one.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        until(lambda: payloads(daemon.database, "q") == ["one"])
        (tmp_path / "link").symlink_to("two.db")
        (tmp_path / "link").rename(tmp_path / "app.db")
        until(lambda: payloads(daemon.database, "q") == ["one", "two"])


def test_what_waits_is_counted_while_rows_move(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with application.transaction() as db:
        db.executemany("INSERT INTO jobsup_outbox (queue) VALUES ('q')", [()] * 700)
    with Daemon(tmp_path, toml(), app=APP, env={"JOBSUP_FAILPOINTS": "relay.before_delete=stop"}) as daemon:
        assert until(lambda: status_of(daemon)["waiting"]) == 700
        daemon.quit()


# --- one relay for one outbox ---------------------------------------------------------------------------------


def test_a_second_daemon_leaves_the_rows_of_the_first_alone(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    text = toml().replace("../app.db", str(application.path))
    with Daemon(tmp_path / "one", text, app=APP) as one, Daemon(tmp_path / "two", text, app=APP) as two:
        until(lambda: sorted(status_of(each)["state"] for each in (one, two)) == ["failing", "idle"])
        first, second = (one, two) if status_of(one)["state"] == "idle" else (two, one)
        assert "another jobsup takes its rows" in status_of(second)["error"]
        for number in range(20):
            application.put("q", number)
        until(lambda: payloads(first.database, "q") == list(range(20)))
        assert payloads(second.database, "q") == []
        first.stop()
        application.put("q", 20)
        with application.transaction() as db:
            db.execute("UPDATE jobsup_outbox_instance SET owner = NULL")
        until(lambda: payloads(second.database, "q") == [20], what="the other daemon, once it may")


def test_a_copy_of_an_outbox_beside_it_is_said_and_touches_no_row(tmp_path: Path) -> None:
    """Rows of the two have the same ids under the same instance: the keeper could not tell them apart."""
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", 1)
        empty(application, daemon)
        with closing(application.connect()) as db:
            db.execute("VACUUM INTO ?", (str(tmp_path / "two.db"),))
        two = Application(tmp_path / "two.db")
        two.put("q", 2)
        daemon.configure(toml('[[outbox]]\ndatabase = "../two.db"\ninterval = "200ms"'))
        assert daemon.ctl("reload").status == 0
        assert "it has the instance of outbox app" in trouble(daemon, "two")
        application.put("q", 3)
        until(lambda: payloads(daemon.database, "q") == [1, 3])
        assert len(two.rows()) == 1
        with two.transaction() as db:
            db.execute("UPDATE jobsup_outbox_instance SET instance = lower(hex(randomblob(16)))")
        until(lambda: payloads(daemon.database, "q") == [1, 3, 2])


TWO = toml('[[outbox]]\ndatabase = "../two.db"\ninterval = "100ms"')


def lead_to_two(application: Application) -> Application:
    """The file of the first outbox gets the name of that of the second."""
    for name in ("app.db", "two.db"):
        for suffix in ("-wal", "-shm"):
            application.path.with_name(name + suffix).unlink(missing_ok=True)
    application.path.rename(application.path.with_name("two.db"))
    return Application(application.path.with_name("two.db"), make=False)


def test_a_file_that_gets_the_name_of_another_outbox_is_taken_up_there(tmp_path: Path) -> None:
    one, _two = Application(tmp_path / "app.db", mode="delete"), Application(tmp_path / "two.db", mode="delete")
    with Daemon(tmp_path, TWO, app=APP) as daemon:
        one.put("q", 1)
        empty(one, daemon)
        until(lambda: status_of(daemon, "two")["state"] == "idle")
        moved = lead_to_two(one)
        moved.put("q", 2)
        empty(moved, daemon)
        assert payloads(daemon.database, "q") == [1, 2]
        until(lambda: status_of(daemon, "two")["state"] == "idle")
        assert "No such file" in trouble(daemon, "app")


@pytest.mark.parametrize("point", ["keeper.outbox", "keeper.before_taken"])
def test_rows_under_way_in_a_file_that_gets_another_name_are_one_job_each(tmp_path: Path, point: str) -> None:
    """The old relay has sent them; the one that has the file now finds them, deletes them and has them forgotten."""
    one, _two = Application(tmp_path / "app.db", mode="delete"), Application(tmp_path / "two.db", mode="delete")
    with Daemon(tmp_path, TWO, app=APP, env={"JOBSUP_FAILPOINTS": f"{point}=stop"}) as daemon:
        keeper = pid_of(daemon, "keeper")
        until(lambda: status_of(daemon, "two")["state"] == "idle")
        with one.transaction() as db:
            rows = [(str(number),) for number in range(300)]
            db.executemany("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', ?)", rows)
        until(lambda: stopped(keeper), what="a keeper that stands between two steps")
        moved = lead_to_two(one)
        os.kill(keeper, signal.SIGCONT)
        empty(moved, daemon)
        assert payloads(daemon.database, "q") == list(range(300))


# --- reload and deaths ----------------------------------------------------------------------------------------


def test_outboxes_come_and_go_with_a_reload(tmp_path: Path) -> None:
    one, two = Application(tmp_path / "app.db"), Application(tmp_path / "two.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        one.put("q", 1)
        two.put("q", 2)
        empty(one, daemon)
        daemon.configure(toml('[[outbox]]\ndatabase = "../two.db"\nqueues = ["other"]'))
        ran = daemon.ctl("reload", "--json")
        assert ran.json["settings"] == ["outbox.two"]
        until(lambda: "has no rows for q" in (two.error_of(1) or ""))
        daemon.configure(toml().replace("app.db", "two.db"))
        assert daemon.ctl("reload").status == 0
        until(lambda: payloads(daemon.database, "q") == [1, 2])
        until(
            lambda: [n["path"] for n in asked(daemon, "tree")["tree"] if n["role"] == "relay"] == ["jobsupd/relay two"]
        )
        one.put("q", 3)
        two.put("q", 4)
        empty(two, daemon)
        assert payloads(daemon.database, "q") == [1, 2, 4]
        assert list(daemon.ctl("status", "--json").json["outboxes"]) == ["two"]


@pytest.mark.parametrize("role", ["relay", "keeper"])
def test_a_relay_or_keeper_that_is_killed_is_replaced_and_rows_go_on(tmp_path: Path, role: str) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", 1)
        empty(application, daemon)
        for number in (2, 3):
            kill_role(daemon, role)
            application.put("q", number)
            until(lambda number=number: number in payloads(daemon.database, "q"))
        empty(application, daemon)
        assert payloads(daemon.database, "q") == [1, 2, 3]
        assert daemon.stop() == 0
        assert daemon.survivors() == []


def test_what_is_under_way_at_a_stop_goes_on_at_the_next_start(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        with application.transaction() as db:
            rows = [(str(number),) for number in range(2_000)]
            db.executemany("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', ?)", rows)
        until(lambda: payloads(daemon.database, "q"))
        assert daemon.stop() == 0
        assert daemon.survivors() == []
        assert daemon.ctl("outbox", "list").rows[0][:3] == ["app", "unknown", ""]
        daemon.start()
        empty(application, daemon, 60)
        assert payloads(daemon.database, "q") == list(range(2_000))


def test_jobs_of_an_outbox_wait_while_the_database_of_jobsup_cannot_be_written(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        db = sqlite3.connect(daemon.database, isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        application.put("q", 1)
        until(lambda: asked(daemon, "status")["daemon"]["store"])
        assert application.rows() == [(1, "q", None)]
        db.execute("ROLLBACK")
        db.close()
        empty(application, daemon, 30)
        assert payloads(daemon.database, "q") == [1]


def test_the_sql_is_printed_and_makes_an_outbox(tmp_path: Path) -> None:
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        with closing(sqlite3.connect(tmp_path / "app.db")) as db:
            db.executescript(daemon.ctl("outbox", "sql").out)
            db.execute("INSERT INTO jobsup_outbox (queue, payload) VALUES ('q', '{\"by\": \"hand\"}')")
            db.commit()
        until(lambda: payloads(daemon.database, "q") == [{"by": "hand"}])
        assert daemon.ctl("outbox", "sql", "--json").json["sql"].startswith("-- The outbox")


def test_what_goes_wrong_after_the_opening_is_said_once(tmp_path: Path) -> None:
    """A column that is renamed under a relay at work, and gets its name back."""
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", 1)
        empty(application, daemon)
        with application.transaction() as db:
            db.execute("ALTER TABLE jobsup_outbox RENAME COLUMN payload TO body")
        said = "has no column payload"
        until(lambda: said in (status_of(daemon)["error"] or ""))
        for _ in range(3):
            with application.transaction() as db:
                db.execute("INSERT INTO done DEFAULT VALUES")
        assert daemon.log.count(said) == 1
        with application.transaction() as db:
            db.execute("ALTER TABLE jobsup_outbox RENAME COLUMN body TO payload")
        application.put("q", 2)
        until(lambda: payloads(daemon.database, "q") == [1, 2])
        until(lambda: status_of(daemon)["error"] is None)


def test_a_table_that_is_made_anew_without_numbers_under_a_relay_is_said(tmp_path: Path) -> None:
    application = Application(tmp_path / "app.db")
    with Daemon(tmp_path, toml(), app=APP) as daemon:
        application.put("q", 1)
        empty(application, daemon)
        with closing(application.connect()) as db:
            db.executescript(f"BEGIN; DROP TABLE jobsup_outbox; {NO_NUMBERS} COMMIT")
        application.put("q", 2)
        assert "is not INTEGER PRIMARY KEY" in trouble(daemon)
        with closing(application.connect()) as db:
            db.executescript(f"BEGIN; DROP TABLE jobsup_outbox; {SCHEMA.read_text()} COMMIT")
        application.put("q", 3)
        until(lambda: payloads(daemon.database, "q") == [1, 3])


# --- enqueueing from a handler ----------------------------------------------------------------------------------

ENQUEUING = """
import os, signal

def run(job):
    from supervisor.client import Client
    if job.payload == "child":
        return None
    with Client() as client:
        client.enqueue("q", "child", tags=["by the client"])
    job.enqueue("q", "child", tags=["by the job"])
    if job.payload == "fail":
        raise ValueError("no")
    if job.payload == "die":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("how", "state", "tags"),
    [
        ("end well", "completed", ["by the client", "by the job"]),
        ("fail", "dead", ["by the client"]),
        ("die", "dead", ["by the client"]),
    ],
)
def test_a_client_in_a_handler_enqueues_at_once_and_a_job_with_its_completion(
    tmp_path: Path, how: str, state: str, tags: list[str]
) -> None:
    text = toml().replace("workers = 1", "workers = 1\nmax_attempts = 1\nmax_crashes = 1")
    with Daemon(tmp_path, text, app={"tasks.py": ENQUEUING}) as daemon:
        daemon.wait_state(daemon.enqueue("q", how), state)
        children = [job for job in daemon.ctl("list", "--json").lines if job["id"] != 1]
        for child in children:
            daemon.wait_state(child["id"], "completed")
        assert sorted(daemon.job(child["id"])["tags"][0] for child in children) == tags


# --- noticing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_row_is_noticed_although_nothing_is_polled(tmp_path: Path, mode: str) -> None:
    application = Application(tmp_path / "app.db", mode=mode)
    with Daemon(tmp_path, toml().replace("100ms", "10m"), app=APP) as daemon:
        for number in range(5):
            application.put("q", number)
            until(lambda number=number: number in payloads(daemon.database, "q"), 5, "the job of a row")
        empty(application, daemon)
