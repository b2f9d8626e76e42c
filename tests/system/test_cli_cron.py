"""jobsctl cron, and the client's methods for schedules: with a daemon, and without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import UnknownSchedule, UsageError, WrongState
from supervisor.policy.redact import HIDDEN
from tests.support.daemon import Daemon, Ran, Site
from tests.support.waiting import until

TOML = """
[daemon]
python_path = ["../app"]
[queues.q]
handler = "tasks:run"
redact = ["password"]
[queues.ranked]
handler = "tasks:run"
order = "priority"
[schedules.nightly]
queue = "q"
cron = "30 2 * * *"
timezone = "Europe/Berlin"
payload = { password = "secret", kind = "nightly" }
[schedules.resting]
queue = "q"
every = "1s"
paused = true
"""
APP = {"tasks.py": "def run(job):\n    return list(job.tags)\n"}
SPRING = "2026-03-28T12:00:00Z"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        yield daemon


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose daemon has run and stopped, so that there is a database."""
    with Daemon(tmp_path, TOML, app=APP) as daemon:
        daemon.stop()
    return Site(tmp_path, TOML, APP)


def error_of(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = ran.json["error"]
    return found


def shown(place: Site, name: str) -> dict[str, Any]:
    ran = place.ctl("cron", "show", name, "--json")
    assert ran.status == 0, ran.err
    found: dict[str, Any] = ran.json
    return found


def test_schedules_are_listed_with_next_and_last(daemon: Daemon) -> None:
    rows = daemon.ctl("cron", "list").rows
    assert [row[:5] for row in rows] == [
        ["nightly", "q", "30 2 * * *", "Europe/Berlin", "no"],
        ["resting", "q", "every 1s", "", "yes"],
    ]
    nightly, resting = daemon.ctl("cron", "list", "--json").lines
    assert (nightly["origin"], nightly["paused"], nightly["every_s"]) == ("file", False, None)
    assert nightly["next_at"].endswith(":30:00.000Z")
    assert nightly["payload"] == {"password": HIDDEN, "kind": "nightly"}
    assert (resting["next_at"], resting["last_job"], resting["fired"]) == (None, None, 0)


def test_a_schedule_is_added_changed_paused_run_and_removed(daemon: Daemon) -> None:
    added = daemon.ctl("cron", "add", "poll", "q", '{"n": null}', "--every", "1s", "--tag", "t", "--json")
    assert added.status == 0, added.err
    assert (added.json["origin"], added.json["payload"], added.json["tags"]) == ("runtime", {"n": None}, ["t"])
    until(lambda: shown(daemon, "poll")["fired"] >= 1)
    last = shown(daemon, "poll")["last_job"]["id"]
    assert daemon.wait_state(last, "completed")["payload"] == {"n": None}

    paused = daemon.ctl("cron", "pause", "poll")
    assert (paused.status, "it is paused; jobsctl cron resume poll" in paused.out) == (0, True)
    before = shown(daemon, "poll")
    ran = daemon.ctl("cron", "run", "poll", "--json").json
    assert (ran["name"], ran["queue"]) == ("poll", "q")
    assert daemon.wait_state(ran["id"], "completed")["result"] == ["t", "schedule:poll"]
    after = shown(daemon, "poll")
    for key in ("fired", "last_job", "last_at", "next_at", "missed"):
        assert after[key] == before[key], "the timetable stays as it is"

    resumed = daemon.ctl("cron", "resume", "poll", "--json").json
    assert (resumed["paused"], resumed["missed"]) == (False, before["missed"])
    until(lambda: shown(daemon, "poll")["fired"] > before["fired"])
    changed = daemon.ctl("cron", "add", "poll", "q", "--every", "1d", "--json").json
    assert (changed["every_s"], changed["fired"] >= before["fired"]) == (86_400.0, True)
    assert daemon.ctl("cron", "remove", "poll").status == 0
    assert daemon.ctl("cron", "show", "poll").status == 3


def test_what_was_added_survives_the_daemon_and_yields_to_the_file(daemon: Daemon) -> None:
    assert daemon.ctl("cron", "add", "mine", "q", "--cron", "@hourly").status == 0
    assert daemon.ctl("cron", "pause", "mine").status == 0
    daemon.stop()
    daemon.start()
    found = shown(daemon, "mine")
    assert (found["cron"], found["origin"], found["paused"]) == ("@hourly", "runtime", True)
    daemon.configure(TOML + '[schedules.mine]\nqueue = "q"\ncron = "@daily"\n')
    assert daemon.ctl("reload").status == 0
    until(lambda: shown(daemon, "mine")["origin"] == "file")
    assert shown(daemon, "mine")["cron"] == "@daily"
    assert "schedule mine was added by a client; the one in the configuration replaces it" in daemon.log


def test_the_file_has_the_last_word_at_runtime(daemon: Daemon) -> None:
    for args in (("remove", "nightly"), ("add", "nightly", "q", "--every", "1m")):
        ran = daemon.ctl("cron", *args, "--json")
        assert (ran.status, error_of(ran)["code"]) == (1, "wrong_state")
        assert "is in the configuration" in error_of(ran)["message"]
    assert daemon.ctl("cron", "pause", "nightly").status == 0
    assert shown(daemon, "nightly")["paused"]
    assert daemon.ctl("reload").status == 0
    assert shown(daemon, "nightly")["paused"], "over reloads"
    assert daemon.ctl("cron", "resume", "nightly").status == 0
    ran = daemon.ctl("cron", "resume", "resting")
    assert (ran.status, "has paused = true in the configuration" in ran.err) == (1, True)


def test_explain_says_when_why_and_what_was_last(daemon: Daemon) -> None:
    text = daemon.ctl("cron", "explain", "nightly").out
    assert text.startswith("nightly runs next at 2")
    assert "it is due at 02:30 every day (30 2 * * *, Europe/Berlin); nothing has been due yet" in text
    assert (
        daemon.ctl("cron", "explain", "resting", "--json")
        .json["explanation"]
        .startswith("resting does not run: it is paused by its definition; it is due every 1s")
    )


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("show", "nix"), 3, "there is no schedule nix"),
        (("explain", "nix"), 3, "there is no schedule nix"),
        (("pause", "nix"), 3, "there is no schedule nix"),
        (("resume", "nix"), 3, "there is no schedule nix"),
        (("run", "nix"), 3, "there is no schedule nix"),
        (("remove", "nix"), 3, "there is no schedule nix"),
        (("preview", "nix"), 3, "there is no schedule nix"),
        (("add", "s", "nix", "--every", "1m"), 3, "there is no queue nix"),
        (("add", "s", "q"), 2, "does not say when it runs"),
        (("add", "s", "q", "--every", "1m", "--cron", "@daily"), 2, "every: stands beside cron"),
        (("add", "s", "nix", "--every", "10ms"), 2, "is out of range; write a duration from"),
        (("add", "s", "nix", "--every", "10ms"), 2, "queue: there is no queue nix"),
        (("add", "s", "q", "--cron", "* * 31 2 *"), 2, "names a day that its months do not have"),
        (("add", "s", "q", "--cron", "@daily", "--timezone", "Europe/Berln"), 2, "did you mean Europe/Berlin?"),
        (("add", "s", "q", "--every", "1m", "--jitter", "2m"), 2, "jitter: 2m reaches the next run"),
        (("add", "s", "q", "--every", "1m", "--priority", "3"), 2, "queue q does not order by it"),
        (("add", "s", "q", "{", "--every", "1m"), 2, "PAYLOAD is not JSON"),
        (("add", "S!", "q", "--every", "1m"), 2, 'name: "S!" is not right here'),
        (("add", "s", "q", "--every", "1x"), 2, "not a duration"),
        (("preview", "* * *"), 2, "has 3 fields"),
        (("preview", "15m", "--timezone", "UTC"), 2, "--timezone goes with an expression"),
        (("preview", "nightly", "--count", "0"), 2, "--count"),
        (("preview", "10ms"), 2, "is out of range"),
    ],
    ids=str,
)
def test_mistakes_have_a_sentence_and_a_status(daemon: Daemon, args: tuple[str, ...], status: int, said: str) -> None:
    ran = daemon.ctl("cron", *args)
    assert (ran.status, said in ran.err) == (status, True), ran.err
    assert [row["name"] for row in daemon.ctl("cron", "list", "--json").lines] == ["nightly", "resting"]


@pytest.mark.parametrize(
    ("args", "local"),
    [
        (("nightly",), ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        (("30 2 * * *", "--timezone", "Europe/Berlin"), ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        (("30 2 * * *",), ["2026-03-29T02:30:00+00:00", "2026-03-30T02:30:00+00:00"]),
        (("@hourly",), ["2026-03-28T13:00:00+00:00", "2026-03-28T14:00:00+00:00"]),
        (("15m",), ["2026-03-28T12:15:00+00:00", "2026-03-28T12:30:00+00:00"]),
    ],
    ids=str,
)
def test_preview_shows_the_next_due_times(tmp_path: Path, args: tuple[str, ...], local: list[str]) -> None:
    ran = Site(tmp_path, TOML, APP).ctl("cron", "preview", *args, "--count", 2, "--after", SPRING, "--json")
    assert [line["local"] for line in ran.lines] == local, ran.err
    assert all(line["fires_at"] == line["due_at"] for line in ran.lines)


def test_preview_shows_what_was_added_with_its_jitter(daemon: Daemon) -> None:
    args = ("--every", "1h", "--jitter", "30m", "--start", "2030-01-01T00:10:00Z", "--end", "2030-01-01T02:10:00Z")
    assert daemon.ctl("cron", "add", "s", "q", *args).status == 0
    lines = daemon.ctl("cron", "preview", "s", "--json").lines
    assert [line["due_at"] for line in lines] == [f"2030-01-01T0{hour}:10:00.000Z" for hour in range(3)]
    assert shown(daemon, "s")["fires_at"] == lines[0]["fires_at"] > lines[0]["due_at"]
    assert daemon.ctl("cron", "preview", "s", "--after", "2031-01-01T00:00:00Z").out == ""


def test_without_a_daemon_the_same_is_shown_and_done(site: Site) -> None:
    assert [row[0] for row in site.ctl("cron", "list").rows] == ["nightly", "resting"]
    site.configure(TOML + '[schedules.new]\nqueue = "ranked"\nevery = "1h"\npriority = 7\n')
    assert [row[0] for row in site.ctl("cron", "list").rows] == ["new", "nightly", "resting"]
    assert shown(site, "new")["priority"] == 7
    assert site.ctl("cron", "pause", "new").status == 0
    assert site.ctl("cron", "add", "added", "q", "1", "--every", "1m").status == 0
    job = site.job(int(site.ctl("cron", "run", "new").out))
    assert (job["state"], job["priority"], job["tags"]) == ("queued", 7, ["schedule:new"])
    status = site.ctl("status", "--json").json["schedules"]
    assert (status["count"], status["paused"]) == (4, 2)
    assert site.ctl("cron", "remove", "added").status == 0
    assert site.ctl("cron", "remove", "new").status == 1
    assert site.ctl("cron", "resume", "new").status == 0
    site.configure(TOML)
    assert [row[0] for row in site.ctl("cron", "list").rows] == ["nightly", "resting"], "it left the file"


def test_the_client_has_methods_for_them(daemon: Daemon) -> None:
    with daemon.client() as client:
        added = client.schedule("mine", "q", {"a": 1}, cron="0 9 * * MON", timezone="Europe/Berlin", missed="once")
        assert (added["missed_policy"], added["recent"]) == ("once", [])
        assert [each["name"] for each in client.schedules()] == ["mine", "nightly", "resting"]
        client.unschedule("mine")
        with pytest.raises(UnknownSchedule):
            client.unschedule("mine")
        with pytest.raises(WrongState):
            client.unschedule("nightly")
        with pytest.raises(UsageError, match="jitter: 1m reaches the next run"):
            client.schedule("mine", "q", every="1m", jitter="1m")


def test_many_are_listed_in_pages(daemon: Daemon) -> None:
    with daemon.client() as client:
        for number in range(120):
            client.schedule(f"many{number:03}", "q", every="1d")
        assert [each["name"] for each in client.schedules()] == [
            *(f"many{number:03}" for number in range(120)), "nightly", "resting",
        ]  # fmt: skip
    assert len(daemon.ctl("cron", "list").rows) == 122


def test_who_may_look_may_not_change(daemon: Daemon) -> None:
    """By class: list and show are of status, the rest is of admin."""
    from supervisor.wire import messages

    kinds = {kind.__struct_config__.tag: kind.access for kind in messages.AnyRequest.__args__}
    of_cron = {op: access for op, access in kinds.items() if str(op).startswith("cron_")}
    assert {op for op, access in of_cron.items() if access == "status"} == {"cron_list", "cron_show"}
    assert {access for op, access in of_cron.items() if op not in ("cron_list", "cron_show")} == {"admin"}
