"""What the keeper does about schedules, pass by pass, by clocks that the test sets: no daemon, no time that passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.config.schedule_keys import show_instant
from supervisor.config.spec import Alerts, Queue, Schedule, Spec, Unique
from supervisor.errors import Busy, JobsupError, StoreError, UnknownQueue, UsageError, WrongState
from supervisor.job import State as JobState
from supervisor.keeper import schedules, timetable
from supervisor.keeper.state import State
from supervisor.keeper.timetable import LOOK_MS, NEVER_MS, keep_time
from supervisor.keeper.work import Work
from supervisor.observe.log import Log
from supervisor.store.protocol import Completion, ScheduleRow
from supervisor.store.reader import Reader
from supervisor.store.sqlite.store import SqliteStore
from tests.conformance.sqlite import SqliteBackend

NOW = 1_700_000_040_000
"""A whole minute."""
MINUTE = 60_000
QUEUE = Queue(name="q", handler="m:f")
MINUTELY = Schedule(name="s", queue="q", every_ms=MINUTE)


class Keeper:
    """The part of a keeper that looks at schedules, with both clocks in the test's hands."""

    def __init__(self, store: SqliteStore, *tables: Schedule, now_ms: int = NOW) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        log = Log("stderr", "error", "text", lambda: 0)
        log.emit = lambda name, **facts: self.said.append((name, facts))  # type: ignore[method-assign]
        self.store = store
        self.now_ms = now_ms
        self.boot_ms = 1_000_000
        self.state = State(Spec(queues={"q": QUEUE}), store, log, "boot", 1)
        self.table = self.state.timetable
        self.configure(*tables)

    def configure(self, *tables: Schedule, **queues: Queue) -> None:
        """Another configuration is in force."""
        spec = Spec(queues=queues or {"q": QUEUE}, schedules={each.name: each for each in tables})
        self.state.spec = spec

    def turn(self) -> None:
        """One pass."""
        with self.store.transaction(self.now_ms) as tx:
            work = Work(self.state, tx, self.now_ms, self.boot_ms)
            keep_time(work)
        work.committed()

    def turns(self, limit: int = 200) -> int:
        """Passes until there is nothing to do now; how many."""
        for count in range(limit):
            wake_ms = self.table.wake_ms(leasing=self.state.leasing)
            if self.table.taken is self.state.spec and (wake_ms is None or wake_ms > self.boot_ms):
                return count
            self.turn()
        raise AssertionError("it turns for ever")

    def later(self, ms: int, *, wall_ms: int | None = None) -> None:
        """Time goes by; with `wall_ms` the wall clock is set as well, and somebody notices."""
        self.boot_ms += ms
        self.now_ms += ms if wall_ms is None else wall_ms
        if wall_ms is not None:
            self.table.wake(self.boot_ms)
        self.turns()

    def row(self, name: str = "s") -> ScheduleRow:
        with self.store.transaction(self.now_ms) as tx:
            found = tx.schedule(name)
        assert found is not None
        return found

    def due(self) -> list[int]:
        """Due times of the jobs that were enqueued, in minutes after NOW."""
        rows = self.store.connection.execute("SELECT options FROM job ORDER BY id").fetchall()
        tags = [tag for (options,) in rows for tag in msgspec.json.decode(options)["tags"] if tag.startswith("due:")]
        from supervisor.policy.options import instant_ms

        return [(instant_ms(tag.removeprefix("due:")) - NOW) // MINUTE for tag in tags]

    def end(self, job_id: int) -> None:
        """A worker has completed the job."""
        with self.store.transaction(self.now_ms) as tx:
            lease = tx.lease("q", 1, 1_000, 1 << 40)
            assert lease is not None
            tx.complete(lease.token, [Completion(job_id, self.now_ms, self.now_ms)])
            tx.release(lease.token, [job.id for job in lease.jobs if job.id != job_id])
        self.table.hear([job_id], everything=False, boot_ms=self.boot_ms)

    def ask(self, kind: type[Any], name: str, *more: Any) -> dict[str, Any]:
        """Carry out an operation; its answer."""
        answers: list[dict[str, Any]] = []
        errors: list[JobsupError] = []
        operation = kind(self.state, name, answers.append, errors.append, *more)
        with self.store.transaction(self.now_ms) as tx:
            effect: Callable[[], bool] = operation.step(tx, self.now_ms)
        assert effect()
        self.turns()
        if errors:
            raise errors[0]
        return answers[0]

    def reader(self) -> Reader:
        return Reader(self.store.connection, self.state.spec.queue)

    def heard(self, name: str) -> list[dict[str, Any]]:
        return [facts for said, facts in self.said if said == name]


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path / "jobs.db", durability="relaxed")


@pytest.fixture
def store(backend: SqliteBackend) -> Iterator[SqliteStore]:
    opened = backend.open()
    yield opened
    opened.close()
    assert backend.complaints() == []


def test_without_schedules_it_looks_once_and_never_again(store: SqliteStore) -> None:
    keeper = Keeper(store)
    assert keeper.turns() == 1
    assert keeper.table.at_ms == NEVER_MS
    assert keeper.table.wake_ms(leasing=True) is None


def test_it_wakes_for_the_next_due_time_and_no_sooner(store: SqliteStore) -> None:
    keeper = Keeper(store, MINUTELY)
    keeper.turns()
    assert keeper.table.wake_ms(leasing=True) == keeper.boot_ms + MINUTE
    assert keeper.table.wake_ms(leasing=False) is None
    keeper.later(MINUTE - 1)
    assert keeper.due() == []
    keeper.later(1)
    assert keeper.due() == [1]
    assert keeper.row().fired == 1
    assert keeper.heard("schedule.fired")[0]["id"] == 1


def test_a_due_time_that_is_far_is_looked_for_every_minute(store: SqliteStore) -> None:
    keeper = Keeper(store, Schedule(name="s", queue="q", cron="@yearly"))
    keeper.turns()
    assert keeper.table.at_ms == keeper.boot_ms + LOOK_MS


def test_while_the_daemon_drains_nothing_fires(store: SqliteStore) -> None:
    keeper = Keeper(store, MINUTELY)
    keeper.turns()
    keeper.state.leasing = False
    keeper.now_ms += MINUTE
    keeper.boot_ms += MINUTE
    keeper.turn()
    assert keeper.due() == []


def test_thousands_are_taken_in_and_fired_in_pages(store: SqliteStore) -> None:
    names = [f"s{number:04}" for number in range(500)]
    keeper = Keeper(store, *(Schedule(name=name, queue="q", every_ms=MINUTE) for name in names))
    assert keeper.turns(2_000) >= 500 // 32
    keeper.later(MINUTE)
    assert keeper.due() == [1] * 500
    keeper.configure()
    keeper.turns(2_000)
    assert keeper.reader().schedules("", 9) == []
    assert keeper.table.wake_ms(leasing=True) is None


def test_two_keepers_that_race_make_one_job_for_each_due_time(backend: SqliteBackend, store: SqliteStore) -> None:
    other = backend.open()
    one, two = Keeper(store, MINUTELY), Keeper(other, MINUTELY)
    for keeper in (one, two):
        keeper.turns()
    for minute in range(1, 21):
        for keeper in (one, two) if minute % 2 else (two, one):
            keeper.later(MINUTE)
    other.close()
    assert one.due() == list(range(1, 21))


def test_a_pass_that_fails_is_as_if_it_had_not_been(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(store, MINUTELY)
    for number in (1, 2):
        with pytest.raises(StoreError), store.transaction(keeper.now_ms) as tx:
            work = Work(keeper.state, tx, keeper.now_ms, keeper.boot_ms)
            keep_time(work)
            raise StoreError("the disk is full")
        work.failed()
        assert keeper.table.taken is None
        assert keeper.reader().schedule("s") is None
        keeper.now_ms += number
    keeper.turns()
    keeper.now_ms = NOW + MINUTE
    keeper.boot_ms += MINUTE
    with pytest.raises(StoreError), store.transaction(keeper.now_ms) as tx:
        work = Work(keeper.state, tx, keeper.now_ms, keeper.boot_ms)
        keep_time(work)
        raise StoreError("the disk is full")
    work.failed()
    assert (keeper.due(), keeper.said) == ([], [])
    keeper.turns()
    assert keeper.due() == [1]


@pytest.mark.parametrize(("missed", "due"), [("skip", [10]), ("once", [10]), ("all", list(range(1, 11)))])
def test_a_restart_goes_on_where_the_rows_are(store: SqliteStore, missed: Any, due: list[int]) -> None:
    table = msgspec.structs.replace(MINUTELY, missed=missed)
    Keeper(store, table).turns()
    again = Keeper(store, table, now_ms=NOW + 10 * MINUTE + 5_000)
    again.turns()
    assert again.due() == due
    assert again.row().missed == 10 - len(due)
    assert again.row().outage is None
    if missed != "all":
        (said,) = again.heard("schedule.missed")
        assert (said["missed"], said["made_good"]) == (9, 1)


def test_a_restart_in_the_middle_of_an_outage_goes_on_with_it(store: SqliteStore) -> None:
    table = msgspec.structs.replace(MINUTELY, missed="all", missed_max=40)
    Keeper(store, table).turns()
    keeper = Keeper(store, table, now_ms=NOW + 100 * MINUTE)
    keeper.turn()
    keeper.turn()
    assert 0 < len(keeper.due()) < 40
    assert keeper.row().outage is not None
    again = Keeper(store, table, now_ms=NOW + 100 * MINUTE + 1)
    again.turns()
    assert again.due() == list(range(1, 41))
    assert (again.row().missed, again.row().handled_ms) == (60, NOW + 100 * MINUTE)


def test_a_clock_set_back_fires_nothing_again(store: SqliteStore) -> None:
    keeper = Keeper(store, MINUTELY)
    keeper.turns()
    for _ in range(3):
        keeper.later(MINUTE)
    keeper.later(0, wall_ms=-2 * MINUTE)
    keeper.later(MINUTE)
    keeper.later(MINUTE)
    assert keeper.due() == [1, 2, 3]
    keeper.later(MINUTE)
    assert keeper.due() == [1, 2, 3, 4]


def test_a_clock_set_forward_is_an_outage(store: SqliteStore) -> None:
    keeper = Keeper(store, MINUTELY)
    keeper.turns()
    keeper.later(0, wall_ms=5 * MINUTE + 45_000)
    assert (keeper.due(), keeper.row().missed, keeper.row().outcome) == ([], 5, "missed")
    assert [claim.outcome for claim in keeper.reader().claims("s")] == ["missed"]


def test_a_changed_timetable_begins_now_and_a_changed_payload_changes_nothing_else(store: SqliteStore) -> None:
    keeper = Keeper(store, msgspec.structs.replace(MINUTELY, missed="all"))
    keeper.turns()
    keeper.now_ms += 3 * MINUTE + 1_000
    keeper.configure(msgspec.structs.replace(MINUTELY, missed="all", payload="1"))
    keeper.turns()
    assert keeper.due() == [1, 2, 3], "what went by is made good"
    keeper.now_ms += 3 * MINUTE
    keeper.configure(msgspec.structs.replace(MINUTELY, missed="all", every_ms=2 * MINUTE))
    keeper.turns()
    assert keeper.due() == [1, 2, 3], "a new timetable has no past"
    keeper.later(2 * MINUTE)
    assert len(keeper.due()) == 4


def test_one_that_leaves_the_file_and_comes_back_opens_no_past_due_time(store: SqliteStore) -> None:
    keeper = Keeper(store, MINUTELY)
    keeper.turns()
    keeper.later(MINUTE)
    keeper.configure()
    keeper.turns()
    keeper.now_ms -= 30_000
    keeper.configure(MINUTELY)
    keeper.turns()
    keeper.later(30_000)
    assert keeper.due() == [1]
    keeper.later(MINUTE)
    assert keeper.due() == [1, 2]


def test_what_left_the_file_while_nobody_ran_fires_nothing(store: SqliteStore) -> None:
    kept = [Schedule(name=f"a{number}", queue="q", every_ms=86_400_000) for number in range(70)]
    Keeper(store, *kept, msgspec.structs.replace(MINUTELY, name="z", missed="all")).turns()
    again = Keeper(store, *kept, now_ms=NOW + 10 * MINUTE)
    again.turns()
    assert again.due() == []


def test_what_is_asked_of_a_daemon_that_has_just_started_waits_until_it_knows(store: SqliteStore) -> None:
    keeper = Keeper(store, MINUTELY)
    answers: list[dict[str, Any]] = []
    operation = schedules.Look(keeper.state, "s", answers.append, answers.append, keeper.reader())  # type: ignore[arg-type]
    done = []
    for _ in range(2):
        with store.transaction(NOW) as tx:
            effect = operation.step(tx, NOW)
        done.append(effect())
        keeper.turns()
    assert done == [False, True]
    assert [each["name"] for each in answers] == ["s"]


def test_without_a_daemon_what_is_asked_takes_all_in_first(store: SqliteStore) -> None:
    keeper = Keeper(store, *(Schedule(name=f"s{number:02}", queue="q", every_ms=MINUTE) for number in range(70)))
    keeper.state.leasing = False
    answers: list[dict[str, Any]] = []
    operation = schedules.LookAtMany(keeper.state, "s60", answers.append, answers.append, keeper.reader())  # type: ignore[arg-type]
    with store.transaction(NOW) as tx:
        effect = operation.step(tx, NOW)
    assert effect()
    assert [each["name"] for each in answers[0]["schedules"]] == [f"s{number}" for number in range(61, 70)]
    assert keeper.table.taken is None, "a daemon that comes looks for itself"


def test_runs_that_overlap_are_skipped_until_the_job_has_ended(store: SqliteStore) -> None:
    keeper = Keeper(store, msgspec.structs.replace(MINUTELY, overlap="skip"))
    keeper.turns()
    for _ in range(3):
        keeper.later(MINUTE)
    assert (keeper.due(), keeper.row().skipped) == ([1], 2)
    assert keeper.row().reason == "job 1 has not ended"
    keeper.end(1)
    keeper.later(MINUTE)
    assert keeper.due() == [1, 4]


def test_one_run_waits_for_the_end_of_the_one_before(store: SqliteStore) -> None:
    keeper = Keeper(store, msgspec.structs.replace(MINUTELY, overlap="queue"))
    keeper.turns()
    for _ in range(4):
        keeper.later(MINUTE)
    row = keeper.row()
    assert (keeper.due(), row.skipped, row.waiting_ms) == ([1], 2, NOW + 2 * MINUTE)
    keeper.table.hear([99], everything=False, boot_ms=keeper.boot_ms)
    assert keeper.table.at_ms > keeper.boot_ms, "that job is nobody's"
    keeper.end(1)
    keeper.turns()
    assert (keeper.due(), keeper.row().waiting_ms) == ([1, 2], None)
    assert keeper.table.watched == {}
    keeper.end(2)
    keeper.turns()
    keeper.later(MINUTE)
    assert keeper.due() == [1, 2, 5]


def test_a_run_waits_on_over_a_restart_a_pause_and_a_retry(store: SqliteStore) -> None:
    table = msgspec.structs.replace(MINUTELY, overlap="queue")
    keeper = Keeper(store, table)
    keeper.turns()
    keeper.later(MINUTE)
    keeper.later(MINUTE)
    again = Keeper(store, table, now_ms=keeper.now_ms)
    again.turns()
    assert again.table.watched == {1: "s"}
    again.table.hear([], everything=True, boot_ms=again.boot_ms)
    again.turns()
    assert again.due() == [1], "an end that was none"
    again.ask(schedules.Pause, "s", again.reader())
    again.end(1)
    again.turns()
    assert again.due() == [1], "a schedule that rests"
    again.ask(schedules.Resume, "s", again.reader())
    assert again.due() == [1, 2]


def test_an_end_that_nobody_told_of_is_found_in_time(store: SqliteStore) -> None:
    keeper = Keeper(store, msgspec.structs.replace(MINUTELY, overlap="queue", end_ms=NOW + 2 * MINUTE))
    keeper.turns()
    keeper.later(MINUTE)
    keeper.later(MINUTE)
    keeper.end(1)
    keeper.table.ended.clear()
    keeper.table.at_ms = keeper.boot_ms + LOOK_MS
    keeper.later(LOOK_MS)
    assert keeper.due() == [1, 2]
    assert keeper.table.wake_ms(leasing=True) is None, "nothing is due any more"


def test_a_schedule_that_is_removed_while_a_run_waits_waits_no_more(store: SqliteStore) -> None:
    keeper = Keeper(store, msgspec.structs.replace(MINUTELY, overlap="queue"))
    keeper.turns()
    keeper.later(MINUTE)
    keeper.later(MINUTE)
    keeper.configure()
    keeper.turns()
    keeper.end(1)
    keeper.turns()
    assert (keeper.due(), keeper.table.watched) == ([1], {})


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"max_size": 1}, "queue q holds 1 waiting jobs and takes at most 1 (max_size)"),
        ({"unique": Unique(on_conflict="refuse")}, "job 1 is there already"),
        ({"unique": Unique(by=("user",))}, "the payload has no member user"),
        ({"max_payload_bytes": 3}, "takes at most 3 (max_payload)"),
    ],
    ids=["full", "not unique", "no member", "too large"],
)
def test_people_are_told_of_a_due_time_whose_job_is_refused(
    store: SqliteStore, rules: dict[str, Any], why: str
) -> None:
    keeper = Keeper(store, MINUTELY)
    keeper.state.alerts.use(Alerts(command=("tell",)))
    keeper.configure(MINUTELY, q=msgspec.structs.replace(QUEUE, **rules))
    keeper.state.use(keeper.state.spec)
    keeper.turns()
    keeper.later(MINUTE)
    keeper.later(MINUTE)
    failed = keeper.row().failed
    assert failed == 2 - len(keeper.due())
    assert failed > 0
    (message,) = keeper.state.alerts.desk.due(NEVER_MS)
    assert (message.kind, message.queue, message.events) == ("missed", "q", failed)
    due = show_instant(NOW + 2 * MINUTE)
    assert message.detail.startswith(f"schedule s could not run at {due}: ")
    assert why in message.detail


def test_a_due_time_whose_queue_is_gone_fails_by_itself(store: SqliteStore) -> None:
    keeper = Keeper(store, MINUTELY)
    keeper.turns()
    keeper.configure(MINUTELY, other=Queue(name="other", handler="m:f"))
    keeper.turns()
    keeper.later(MINUTE)
    assert (keeper.due(), keeper.row().failed, keeper.row().outcome) == ([], 1, "failed")
    assert keeper.heard("schedule.failed")[0]["reason"] == "there is no queue q"
    keeper.configure(MINUTELY)
    keeper.turns()
    keeper.later(MINUTE)
    assert keeper.due() == [2]


def test_a_definition_that_cannot_be_used_any_more_rests_until_it_can(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    berlin = Schedule(name="s", queue="q", cron="* * * * *", timezone="Europe/Berlin", overlap="queue")
    keeper = Keeper(store, berlin)
    keeper.turns()

    def no_zones(_: Schedule) -> Any:
        raise ValueError('"Europe/Berlin" is no time zone')

    with monkeypatch.context() as patched:
        patched.setattr(timetable, "plan_of", no_zones)
        other = Keeper(store, berlin, now_ms=keeper.now_ms)
        other.turns()
        assert (other.row().outcome, other.row().fires_ms) == ("unusable", None)
        assert other.heard("schedule.unusable")[0]["reason"] == '"Europe/Berlin" is no time zone'
        shown = schedules.one(other.state, other.reader(), "s", NOW)
        assert shown["explanation"] == 's does not run: "Europe/Berlin" is no time zone'
        with pytest.raises(WrongState, match="cannot be used"):
            other.ask(schedules.Run, "s")
    again = Keeper(store, berlin, now_ms=keeper.now_ms)
    again.turns()
    assert again.row().outcome is None
    again.later(MINUTE)
    assert again.due() == [1]


def test_a_row_of_another_version_is_shown_and_rests(store: SqliteStore) -> None:
    keeper = Keeper(store)
    keeper.turns()
    keeper.ask(schedules.Add, "s", keeper.reader(), {"queue": "q", "every": "1m"})
    strange = keeper.row()._replace(definition=b'{"name": "s", "moon": 1}')
    with store.transaction(NOW) as tx:
        tx.define_schedule(strange)
    keeper.later(MINUTE)
    assert (keeper.due(), keeper.row().outcome) == ([], "unusable")
    assert schedules.one(keeper.state, keeper.reader(), "s", NOW)["queue"] is None
    keeper.ask(schedules.Add, "s", keeper.reader(), {"queue": "q", "every": "2m"})
    keeper.later(MINUTE)
    assert keeper.due() == [2]


def test_operations_answer_with_the_schedule_and_refuse_with_a_reason(store: SqliteStore) -> None:
    keeper = Keeper(store, msgspec.structs.replace(MINUTELY, paused=True))
    keeper.turns()
    added = keeper.ask(schedules.Add, "mine", keeper.reader(), {"queue": "q", "cron": "@daily"})
    assert (added["origin"], added["cron"], added["recent"]) == ("runtime", "@daily", [])
    assert keeper.ask(schedules.Run, "mine") == {"name": "mine", "queue": "q", "id": 1, "state": JobState.QUEUED.value}
    assert keeper.due() == []
    assert keeper.ask(schedules.Remove, "mine") == {"name": "mine"}
    refused: list[tuple[type[JobsupError], type[Any], tuple[Any, ...]]] = [
        (WrongState, schedules.Add, ("s", keeper.reader(), {"queue": "q", "every": "1m"})),
        (WrongState, schedules.Remove, ("s",)),
        (WrongState, schedules.Resume, ("s", keeper.reader())),
        (UnknownQueue, schedules.Add, ("t", keeper.reader(), {"queue": "nix", "every": "1m"})),
        (UsageError, schedules.Add, ("t", keeper.reader(), {"queue": 5, "every": "1m"})),
    ]
    for error, kind, given in refused:
        with pytest.raises(error):
            keeper.ask(kind, *given)


def test_their_number_is_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "ROWS_MAX", 1)
    keeper = Keeper(store)
    keeper.turns()
    keeper.ask(schedules.Add, "a", keeper.reader(), {"queue": "q", "every": "1m"})
    keeper.ask(schedules.Add, "a", keeper.reader(), {"queue": "q", "every": "2m"})
    with pytest.raises(Busy, match="there are 1 schedules already"):
        keeper.ask(schedules.Add, "b", keeper.reader(), {"queue": "q", "every": "1m"})


def test_an_added_one_yields_to_the_file_and_is_said_to(store: SqliteStore) -> None:
    keeper = Keeper(store)
    keeper.turns()
    keeper.ask(schedules.Add, "s", keeper.reader(), {"queue": "q", "every": "1d"})
    keeper.configure(MINUTELY)
    keeper.turns()
    assert keeper.row().origin == "file"
    assert keeper.heard("schedule.replaced") == [{"schedule": "s"}]
    keeper.later(MINUTE)
    assert keeper.due() == [1]


def test_all_of_a_page_is_shown_with_where_to_go_on(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "LISTED_MAX", 2)
    keeper = Keeper(store, *(Schedule(name=name, queue="q", every_ms=MINUTE) for name in "abc"))
    keeper.turns()
    pages = []
    after: str | None = ""
    while after is not None:
        page = keeper.ask(schedules.LookAtMany, after, keeper.reader())
        pages.append([each["name"] for each in page["schedules"]])
        after = page["next"]
    assert pages == [["a", "b"], ["c"]]
    assert keeper.ask(schedules.Look, "b", keeper.reader())["name"] == "b"
