"""What the keeper's parts say of what goes wrong: only what is wanted is kept, and a store that hiccups is no alert."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from supervisor.config.spec import Alerts as Wanted
from supervisor.config.spec import Queue, Spec
from supervisor.keeper import alerting as module_of_chore
from supervisor.keeper import alerts as module
from supervisor.keeper.alert_text import alert_of, payload_of
from supervisor.keeper.alerting import QUEUES_AT_ONCE, REST_LOOK_MS, Alerting, size_text
from supervisor.keeper.alerts import Alerts
from supervisor.policy.alerts import KINDS, Message

LATER_MS = 10**9


class Clock:
    """Both clocks, as the test says."""

    now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for part in (module, module_of_chore):
        monkeypatch.setattr(part, "boot_ms", clock)
        monkeypatch.setattr(part, "wall_ms", clock)
    return clock


def wanted(**keys: Any) -> Wanted:
    return Wanted(command=("tell",), **keys)


def told(alerts: Alerts) -> list[tuple[str, str, str | None, str]]:
    return [(one.kind, one.state, one.queue, one.detail) for one in alerts.desk.due(LATER_MS)]


def say_all(alerts: Alerts) -> None:
    alerts.dead("q", 1, "x")
    alerts.missed("q", "nightly: the daemon was down", count=3)
    alerts.reload_refused("line 3")
    alerts.undead("q", 7, 99, gone=False)
    alerts.breaker("q", "9 of 10 failed")
    alerts.look("circuit", "q", "x")


def test_what_breakers_and_schedules_say_is_told(clock: Clock) -> None:
    alerts = Alerts(wanted())
    alerts.breaker("q", "9 of 10 failed")
    alerts.missed("q", "nightly\x1b[2J", count=2)
    assert told(alerts) == [
        ("breaker", "open", "q", "9 of 10 failed"),
        ("missed", "event", "q", "nightly\\x1b[2J"),
    ]
    alerts.breaker("q", None)
    assert [(one.kind, one.state) for one in alerts.desk.due(2 * LATER_MS)] == [("breaker", "recovered")]


@pytest.mark.parametrize("section", [Wanted(), wanted(on=())])
def test_what_nobody_wants_is_not_kept(clock: Clock, section: Wanted) -> None:
    alerts = Alerts(section)
    say_all(alerts)
    assert alerts.desk.next_ms(0) is None


def test_a_reload_switches_kinds(clock: Clock) -> None:
    alerts = Alerts(wanted())
    alerts.look("circuit", "q", "x")
    alerts.breaker("p", "x")
    alerts.use(wanted(on=("breaker", "dead"), limit=2))
    alerts.keep({"q"}.__contains__)
    alerts.dead("q", 1, "x")
    assert told(alerts) == [("dead", "event", "q", "x")]
    assert alerts.desk.limit == 2
    alerts.use(wanted(on=KINDS))
    say_all(alerts)
    assert {kind for kind, *_ in told(alerts)} <= set(KINDS)


def test_a_worker_that_does_not_die_is_one_event(clock: Clock) -> None:
    alerts = Alerts(wanted())
    for _ in range(5):
        alerts.undead("q", 7, 99, gone=False)
    (message,) = alerts.desk.due(LATER_MS)
    assert message.events == 1
    alerts.undead("q", 7, 99, gone=True)
    alerts.undead("q", 7, 100, gone=False)
    assert len(alerts.desk.due(3 * LATER_MS)) == 1


def holds(alerts: Alerts) -> bool:
    """Whether people would by now believe that the store fails."""
    alerts.desk.due(LATER_MS)
    return bool(alerts.desk.open())


def test_a_store_that_fails_for_a_moment_is_nothing(clock: Clock) -> None:
    alerts = Alerts(wanted())
    alerts.look_at_store(failing=False)
    alerts.store_failed("locked")
    clock.now_ms += 300
    alerts.store_failed("locked")
    clock.now_ms += 5_000
    alerts.look_at_store(failing=False)
    assert not holds(alerts)


def test_a_store_that_fails_by_turns_fails_until_it_has_been_calm(clock: Clock) -> None:
    alerts = Alerts(wanted())
    alerts.store_failed("full")
    clock.now_ms += 4_000
    alerts.store_failed("full")
    alerts.look_at_store(failing=False)
    assert holds(alerts)
    clock.now_ms += module.STORE_CALM_MS - 1
    alerts.look_at_store(failing=False)
    assert holds(alerts)
    clock.now_ms += 1
    alerts.look_at_store(failing=False)
    (message,) = alerts.desk.due(2 * LATER_MS)
    assert (message.state, message.detail) == ("recovered", "full")
    clock.now_ms += 3_600_000
    alerts.store_failed("locked")
    alerts.look_at_store(failing=True)
    assert not holds(alerts), "this is another time"


def test_a_store_that_fails_all_the_time_is_told_of_though_no_pass_is_tried(clock: Clock) -> None:
    alerts = Alerts(wanted())
    alerts.store_failed("locked")
    alerts.look_at_store(failing=True)
    assert not holds(alerts)
    clock.now_ms += module.STORE_PROVEN_MS
    alerts.look_at_store(failing=True)
    assert holds(alerts)


def test_the_payload_of_a_webhook_is_its_url_and_the_alert() -> None:
    alert = alert_of(Message("dead", "event", "q", 2, (1, 2), 1_000, 2_000, "why", {"dead": 3}))
    assert alert["summary"] == "2 jobs of q are dead, such as 1, 2: why; and 3 more"
    assert (alert["first_at"], alert["more"], alert["more_of"]) == ("1970-01-01T00:00:01.000Z", 3, {"dead": 3})
    assert payload_of(Wanted(queue="h", url="https://x"), alert) == {"url": "https://x", "body": alert}
    over = Wanted(queue="h", url="https://x", payload={"headers": {"a": "b"}, "body": {"text": "{summary}"}})
    assert payload_of(over, alert) == {"url": "https://x", "headers": {"a": "b"}, "body": {"text": alert["summary"]}}


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (3 * 2**41, "6.0 TiB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert size_text(size) == text


class Pages:
    """A reader whose queues wait since when the test says."""

    def __init__(self) -> None:
        self.since: dict[str, int | None] = {}
        self.asked: list[int] = []

    def waiting_since_ms(self, after: int, queues_max: int) -> tuple[int, dict[str, int | None]]:
        self.asked.append(after)
        names = sorted(self.since)[after : after + queues_max]
        return (after + len(names) if len(names) == queues_max else 0), {name: self.since[name] for name in names}

    def paused(self) -> set[str]:
        return set()


def a_chore(*queues: Queue, **keys: Any) -> tuple[Alerting, Alerts, Pages]:
    """The chore of a keeper with these queues and nothing else; looking at queues is all that it can do."""
    spec = Spec(alerts=wanted(on=("oldest",), oldest_max_ms=60_000, **keys), queues={one.name: one for one in queues})
    alerts, pages = Alerts(spec.alerts), Pages()
    state: Any = SimpleNamespace(
        spec=spec, alerts=alerts, control=object(), leasing=True, tree=[], pools={}, failure=None
    )
    private: Any = SimpleNamespace(also=lambda *_: None)
    selector: Any = None
    reader: Any = pages
    return Alerting(state, selector, private, reader), alerts, pages


def open_queues(alerts: Alerts, now_ms: int) -> set[str | None]:
    alerts.desk.due(now_ms + 100_000)
    return {one.queue for one in alerts.desk.open()}


def test_a_job_that_came_back_waits_no_longer_than_its_queue_has_had_jobs(clock: Clock) -> None:
    chore, alerts, pages = a_chore(Queue(name="q", handler="m:f"), Queue(name="t-*", handler="m:f", oldest_max_ms=0))
    pages.since = {"q": None, "t-1": 0, "gone": 0}
    chore.turn(clock.now_ms)
    clock.now_ms += REST_LOOK_MS
    pages.since["q"] = clock.now_ms - 3_600_000
    chore.turn(clock.now_ms)
    assert open_queues(alerts, clock.now_ms) == set(), (
        "it was retried, or its clock is odd: a moment ago none was queued"
    )
    clock.now_ms += 60_000
    chore.turn(clock.now_ms)
    assert open_queues(alerts, clock.now_ms) == {"q"}


def test_thousands_of_queues_are_looked_at_page_by_page(clock: Clock) -> None:
    chore, alerts, pages = a_chore(Queue(name="t-*", handler="m:f"), limit=1000)
    pages.since = {f"t-{number:04}": 0 for number in range(QUEUES_AT_ONCE + 1)}
    chore.turn(clock.now_ms)
    assert pages.asked == [0]
    clock.now_ms += 1_000
    chore.turn(clock.now_ms)
    assert pages.asked == [0, QUEUES_AT_ONCE]
    clock.now_ms += 1_000
    chore.turn(clock.now_ms)
    assert pages.asked == [0, QUEUES_AT_ONCE], "the round is over, and the next one begins later"
    assert len(open_queues(alerts, clock.now_ms)) == QUEUES_AT_ONCE + 1


def test_a_keeper_without_descriptors_goes_on_and_tells_later(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    chore, alerts, _ = a_chore()
    log: list[dict[str, Any]] = []
    chore._state.log = SimpleNamespace(emit=lambda _name, **facts: log.append(facts))  # type: ignore[assignment]

    def none_left(_name: str, _data: bytes) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module_of_chore, "memory_file", none_left)
    chore._link, chore._heard = SimpleNamespace(congested=False), True  # type: ignore[assignment]
    alerts.desk.look("oldest", "q", "x", clock.now_ms, clock.now_ms)
    clock.now_ms += 1_000
    chore.turn(clock.now_ms)
    assert "Too many open files" in log[0]["error"]
    assert alerts.desk.open() == []
    assert alerts.desk.next_ms(clock.now_ms) == clock.now_ms + 60_000
