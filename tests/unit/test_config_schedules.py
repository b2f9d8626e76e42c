"""Schedules in files: what is read, and what is wrong with them, all at once, with file, line and key."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from supervisor.config import codec, resolved
from supervisor.config.schedules import SCHEDULES_MAX, from_values, plan_of
from supervisor.config.spec import Queue, Schedule, Unique
from supervisor.config.zones import zone
from supervisor.policy.schedule import Cron, Every
from tests.support.config_files import QUEUE, load_text, problems, problems_of, write

HEAD = QUEUE + "[schedules.s]\n"
DAILY = HEAD + 'queue = "q"\ncron = "@daily"\n'


def schedule(folder: Path, text: str, **environ: str) -> Schedule:
    return load_text(folder, text, environ=environ).schedules["s"]


def test_a_schedule_is_read_with_all_its_keys(tmp_path: Path) -> None:
    text = """
queue = "q"
cron = "30  2 * * MON-FRI"
timezone = "Europe/Berlin"
payload = { text = "${WHO:-x}", list = [1, 2.5, true, "$${y}"], deep = { er = [] } }
jitter = "5m"
start = 2030-01-01T00:00:00+01:00
end = "2031-01-01T00:00:00Z"
missed = "all"
missed_within = "6h"
missed_max = 7
overlap = "queue"
tags = ["a", "b"]
paused = true
"""
    found = schedule(tmp_path, HEAD + text, WHO="me")
    assert found == Schedule(
        name="s", queue="q", cron="30 2 * * MON-FRI", timezone="Europe/Berlin",
        payload='{"text":"me","list":[1,2.5,true,"${y}"],"deep":{"er":[]}}', jitter_ms=300_000,
        start_ms=1_893_452_400_000, end_ms=1_924_992_000_000, missed="all", missed_within_ms=21_600_000, missed_max=7,
        overlap="queue", tags=("a", "b"), paused=True,
    )  # fmt: skip


def test_the_shortest_schedule_has_the_defaults(tmp_path: Path) -> None:
    assert schedule(tmp_path, DAILY) == Schedule(name="s", queue="q", cron="@daily")
    assert schedule(tmp_path, HEAD + 'queue = "q"\nevery = "15m"\n') == Schedule(name="s", queue="q", every_ms=900_000)


def test_what_was_understood_loads_again_and_travels(tmp_path: Path) -> None:
    import tomli_w

    more = '[schedules.t]\nqueue = "q"\nevery = "1d"\nstart = 2030-01-01T00:00:00Z\npayload = "$${x}"\n'
    spec = load_text(tmp_path, DAILY + more)
    again = load_text(tmp_path, tomli_w.dumps(resolved.as_toml_data(spec)))
    assert again.schedules == spec.schedules
    assert codec.decode(codec.encode(spec)) == spec


@pytest.mark.parametrize("payload", ["1", "true", '"text"', "[]", "{}", "-0.5"])
def test_any_value_but_a_time_is_a_payload(tmp_path: Path, payload: str) -> None:
    assert schedule(tmp_path, DAILY + f"payload = {payload}\n").payload == json.dumps(json.loads(payload))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('cron = "* * 31 2 *"', '5: schedules.s.cron: "* * 31 2 *" names a day that its months do not have'),
        ('cron = "* * * *"', '5: schedules.s.cron: "* * * *" has 4 fields; write minute hour'),
        ("cron = 5", '5: schedules.s.cron: 5 is an integer; write a cron expression, such as "30 2 * * MON-FRI"'),
        (f'cron = "{"1," * 200}1 * * * *"', "5: schedules.s.cron: "),
        ('cron = "@daily"\ntimezone = "Europe/Berln"', '6: schedules.s.timezone: "Europe/Berln" is no time zone; did'),
        ('cron = "@daily"\ntimezone = "../../etc/passwd"', "6: schedules.s.timezone: "),
        ('cron = "@daily"\ntimezone = "zz"', 'is no time zone; write a name such as Europe/Berlin or UTC'),
        ('cron = "@daily"\ntimezone = 1', "6: schedules.s.timezone: 1 is an integer; write a name such as"),
        ('every = "500ms"', '5: schedules.s.every: "500ms" is out of range; write a duration from "1s"'),
        ("every = 15", "5: schedules.s.every: 15 has no unit"),
        ('every = "1m"\ntimezone = "UTC"', "6: schedules.s.timezone: means something for cron only"),
        ('every = "1m"\ncron = "@daily"', "5: schedules.s.every: stands beside cron; keep one of them"),
        ('every = "1m"\njitter = "1m"', "6: schedules.s.jitter: 1m reaches the next run, 1m later; write less than"),
        ('cron = "0,5 0 1 1 *"\njitter = "6m"', "6: schedules.s.jitter: 6m reaches the next run, 5m later"),
        ('every = "1m"\nstart = 2031-01-01T00:00:00Z\nend = 2030-01-01T00:00:00Z', "7: schedules.s.end: is before"),
        ('every = "1m"\nstart = 2031-01-01T00:00:00', "6: schedules.s.start: a date or time: an instant needs a"),
        ('every = "1m"\nstart = 2031-01-01', "6: schedules.s.start: a date or time is not right here; write"),
        ('every = "1m"\nstart = "soon"', '6: schedules.s.start: "soon": '),
        ('every = "1m"\nend = "1969-01-01T00:00:00Z"', "is before 1970, or too far away"),
        ('every = "1m"\nmissed_within = "1h"', "6: schedules.s.missed_within: means something for missed ="),
        ('every = "1m"\nmissed = "none"', '6: schedules.s.missed: "none" is not known here; did you mean once?'),
        ('every = "1m"\noverlap = "drop"', '6: schedules.s.overlap: "drop" is not known here; known are allow'),
        ('every = "1m"\npriority = 3', "6: schedules.s.priority: queue q does not order by it (its order is fifo)"),
        ('every = "1m"\npayload = { at = 2020-01-01 }', "6: schedules.s.payload: holds a date or time, which"),
        ('every = "1m"\npayload = [nan]', "6: schedules.s.payload: holds inf or nan, which JSON does not have"),
        ('every = "1m"\npayload = { "a\\u0000" = 1 }', "6: schedules.s.payload: holds a NUL or half a character"),
        (f'every = "1m"\npayload = "{"x" * 70_000}"', "6: schedules.s.payload: is 70,002 bytes as JSON; a schedule's"),
        ('every = "1m"\ntags = ["a", "a"]', "6: schedules.s.tags: has a tag twice; write each once"),
        (f'every = "1m"\ntags = [{", ".join(f"{str(n)!r}" for n in range(31))}]', "has 31 tags; write at most 30"),
        ('every = "1m"\nqeueu = 1', "6: schedules.s.qeueu: unknown key; did you mean queue?"),
        ('every = "1m"\nidempotency_key = "k"', "6: schedules.s.idempotency_key: is for jobs that are enqueued"),
        ("", "3: schedules.s: does not say when it runs; write cron ="),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, lines: str, said: str) -> None:
    (found,) = problems_of(tmp_path, f'[queues.q]\nhandler = "m:f"\n[schedules.s]\nqueue = "q"\n{lines}\n')
    assert said in found.replace("queues.toml:", "")


def test_all_problems_of_all_schedules_are_said_at_once(tmp_path: Path) -> None:
    text = f"""{QUEUE}max_payload = "10B"
[schedules.one]
queue = "nix"
cron = "* * 31 2 *"
timezone = "Mars/Base"
start = 2031-01-01T00:00:00Z
end = 2030-01-01T00:00:00Z
[schedules.two]
queue = "q"
every = "1s"
jitter = "2s"
payload = "0123456789"
priority = 1
[schedules.Three]
every = "1m"
"""
    found = [line.removeprefix("queues.toml:").split(": ")[:2] for line in problems_of(tmp_path, text)]
    assert found == [
        ["5", "schedules.one.queue"],
        ["6", "schedules.one.cron"],
        ["7", "schedules.one.timezone"],
        ["9", "schedules.one.end"],
        ["13", "schedules.two.jitter"],
        ["14", "schedules.two.payload"],
        ["15", "schedules.two.priority"],
        ["16", "schedules.Three"],
        ["16", "schedules.Three"],
    ]


@pytest.mark.parametrize("queue", ['unique.by = ["a", "b.c"]', 'unique.by = ["b.c"]\nthrottle = "1m"',
                                   'unique.by = ["key", "b.c"]\ndebounce = "1m"'])  # fmt: skip
def test_a_payload_has_what_its_queue_tells_jobs_apart_by(tmp_path: Path, queue: str) -> None:
    text = f'[schedules.s]\nqueue = "q"\nevery = "1m"\npayload = {{ a = 1, b = {{ d = 2 }} }}\n{QUEUE}{queue}\n'
    (found,) = problems_of(tmp_path, text)
    said = "has no member b.c, by which jobs of queue q are unique; add it"
    assert found == f"queues.toml:4: schedules.s.payload: {said}"
    (found,) = problems_of(tmp_path, f'[schedules.s]\nqueue = "q"\nevery = "1m"\n{QUEUE}unique.by = ["a"]\n')
    assert found == f"queues.toml:1: schedules.s.payload: {said.replace('b.c', 'a')}"
    load_text(tmp_path, text.replace("d = 2", "c = 2"))


def test_a_schedule_that_is_added_has_what_its_queue_tells_jobs_apart_by() -> None:
    queue = Queue(name="q", handler="m:f", unique=Unique(by=("user",)))
    values = {"queue": "q", "every": "1m"}
    with pytest.raises(ValueError, match="payload: has no member user, by which jobs of queue q are unique; add it"):
        from_values("s", values, queue)
    assert from_values("s", {**values, "payload": {"user": 1}}, queue).payload == '{"user":1}'


def test_a_wrong_queue_is_not_an_unknown_one(tmp_path: Path) -> None:
    (found,) = problems_of(
        tmp_path, '[queues.q]\nworkers = "x"\nhandler = "m:f"\n[schedules.s]\nqueue = "q"\nevery = "1m"\n'
    )
    assert found.startswith("queues.toml:2: queues.q.workers: ")


def test_without_any_queue_the_hint_is_to_write_one(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path, '[schedules.s]\nqueue = "q"\nevery = "1m"\n')
    assert found == 'queues.toml:2: schedules.s.queue: there is no queue "q"; write a [queues.NAME]'


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    assert problems_of(tmp_path, QUEUE + "[schedules]\ns = 1\n")[0].startswith(
        "queues.toml:4: schedules.s: is no table; write it as [schedules.s] with keys below"
    )
    (found,) = problems_of(tmp_path, "schedules = 1\n" + QUEUE)
    assert found == "queues.toml:1: schedules: is no table; write one [schedules.NAME] for each schedule"


@pytest.mark.parametrize("table", ["queues.q", "defaults"])
@pytest.mark.parametrize("key", ["cron", "every", "timezone", "overlap"])
def test_keys_of_a_schedule_in_a_queue_are_sent_where_they_belong(tmp_path: Path, table: str, key: str) -> None:
    text = QUEUE + (f'{key} = "x"\n' if table == "queues.q" else f'[defaults]\n{key} = "x"\n')
    (found,) = problems_of(tmp_path, text)
    assert f"{table}.{key}: is a key of a schedule; write a [schedules.NAME] with it" in found


def test_drop_ins_hold_schedules_too_and_the_last_word_counts(tmp_path: Path) -> None:
    main = write(tmp_path, DAILY)
    write(tmp_path, '[schedules.s]\nqueue = "q"\nevery = "1m"\n', "queues.d/a.toml")
    write(tmp_path, '[schedules.t]\nqueue = "nix"\nevery = "1m"\n', "queues.d/b.toml")
    assert problems(main) == ['queues.d/b.toml:2: schedules.t.queue: there is no queue "nix"; known are q']
    (tmp_path / "queues.d" / "b.toml").unlink()
    spec = load_text(tmp_path, DAILY, ["schedules.s.every=2m"])
    assert spec.schedules["s"].every_ms == 120_000
    assert "replaces the schedule at" in spec.warnings[0]


def test_a_setting_of_the_command_line_names_a_key(tmp_path: Path) -> None:
    assert load_text(tmp_path, DAILY, ["schedules.s.overlap=skip"]).schedules["s"].overlap == "skip"
    (found,) = problems_of(tmp_path, DAILY, ["schedules.s=1"])
    assert found == "--set:1: file: schedules.s is no key of a schedule; write schedules.NAME.KEY=value"


def test_their_number_is_bounded(tmp_path: Path) -> None:
    text = QUEUE + "".join(f'[schedules.s{n}]\nqueue="q"\nevery="1m"\n' for n in range(SCHEDULES_MAX + 1))
    (found,) = problems_of(tmp_path, text)
    assert found.endswith(f"schedules: are {SCHEDULES_MAX + 1}; write at most {SCHEDULES_MAX}")


def test_a_plan_has_the_times_that_are_meant() -> None:
    cron = plan_of(Schedule(name="a", queue="q", cron="@daily", timezone="Europe/Berlin"))
    assert cron.times == Cron("0 0 * * *", zone("Europe/Berlin"))
    assert plan_of(Schedule(name="a", queue="q", every_ms=5_000, start_ms=3)).times == Every(5_000, 3)
    assert zone("UTC") is UTC


VALUES: dict[str, Any] = {"queue": "q", "every": "1m"}


def test_what_a_client_adds_is_read_by_the_same_rules() -> None:
    queue = Queue(name="q", handler="m:f", max_payload_bytes=20)
    given = {**VALUES, "payload": {"null": None}, "start": "2030-01-01T00:00:00Z", "tags": ["t"]}
    found = from_values("n", given, queue)
    assert (found.name, found.payload, found.tags) == ("n", '{"null":null}', ("t",))


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("N!", VALUES, 'name: "N!" is not right here; write a name of lower-case letters'),
        ("n", {**VALUES, "evry": 1}, "evry: unknown key; did you mean every?"),
        ("n", {**VALUES, "every": 1, "jitter": "x"}, "every: 1 has no unit; write a duration from"),
        ("n", {**VALUES, "payload": "x" * 30}, "payload: is 32 bytes as JSON; queue q takes at most 20"),
        ("n", {"queue": "q"}, "does not say when it runs"),
        ("n", {}, "does not say where its jobs go"),
    ],
)
def test_what_a_client_adds_is_refused_in_the_same_words(name: str, values: dict[str, Any], said: str) -> None:
    queue = Queue(name="q", handler="m:f", max_payload_bytes=20)
    with pytest.raises(ValueError) as caught:
        from_values(name, values, queue)
    assert said in str(caught.value)
