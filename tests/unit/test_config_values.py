"""Every kind of value: what it means, and the sentence for what it cannot mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.config.kinds import integer, or_word, show_size, size
from supervisor.config.spec import Demand, Rate, Unique, WorkerRange
from supervisor.config.special import LOG_TARGET, PRELOAD
from tests.support.config_files import QUEUE, load_text, problems_of

READ = [
    ("workers = 8", "workers", 8),
    ("workers = { min = 1, max = 8 }", "workers", WorkerRange(min=1, max=8)),
    ("workers = { max = 3, min = 3 }", "workers", WorkerRange(min=3, max=3)),
    ('order = "priority"', "order", ("priority",)),
    ('order = ["priority", "fair"]', "order", ("priority", "fair")),
    ('order = ["fair", "lifo"]', "order", ("fair", "lifo")),
    ('order = "priority"\nageing = "1m"', "ageing_ms", 60_000),
    ('order = "fair"\nweights = { acme = 3, "a b" = 1 }', "weights", {"acme": 3, "a b": 1}),
    ("ordered = true", "ordered", True),
    ('after_dead = "dead_letter"\nordered = true', "after_dead", "dead_letter"),
    ("concurrency = 4", "concurrency", 4),
    ("key_concurrency = 1", "key_concurrency", 1),
    ('rate = { limit = 10, period = "1m" }', "rate", Rate(limit=10, period_ms=60_000)),
    ('key_rate = { limit = 2, algorithm = "window" }', "key_rate", Rate(limit=2, algorithm="window")),
    ("max_size = 1000", "max_size", 1_000),
    ('when_full = "drop_oldest"\nmax_size = 9', "when_full", "drop_oldest"),
    ("unique = {}", "unique", Unique()),
    ('unique = { by = ["a.b", "key"], while = ["queued"] }', "unique", Unique(by=("a.b", "key"), states=("queued",))),
    ('unique.period = "1h"', "unique", Unique(period_ms=3_600_000)),
    ('throttle = "1m"', "throttle_ms", 60_000),
    ('debounce = "5s"', "debounce_ms", 5_000),
    ("demand = { min = 2, max = 8 }", "demand", Demand(min=2, max=8)),
    ('timeout = "1h30m"', "timeout_ms", 5_400_000),
    ('kill_grace = "0s"', "kill_grace_ms", 0),
    ('max_payload = "64KiB"', "max_payload_bytes", 65_536),
    ('max_result = "2MB"', "max_result_bytes", 2_000_000),
    ('pass_env = ["TZ", "AWS_REGION"]', "pass_env", ("TZ", "AWS_REGION")),
    ('env = { A = "1", B = "" }', "env", {"A": "1", "B": ""}),
    ("network = true", "network", True),
    ("preload = true", "preload", "always"),
    ("preload = false", "preload", "never"),
    ('preload = "auto"', "preload", "auto"),
    ('after_fork = "a.b:C.d"', "after_fork", "a.b:C.d"),
    ('user = "www-data"', "user", "www-data"),
    ('redact = ["password", "card.*"]', "redact", ("password", "card.*")),
    ("recycle_jobs = 1", "recycle_jobs", 1),
]


@pytest.mark.parametrize(("line", "field", "value"), READ, ids=[line for line, _, _ in READ])
def test_a_value_becomes_what_the_spec_keeps(tmp_path: Path, line: str, field: str, value: Any) -> None:
    queue = load_text(tmp_path, QUEUE + line).queues["q"]
    assert getattr(queue, field) == value


NUMBER_ALONE = "write an integer from 1 to 256"
NUMBER_OF_WORKERS = f"{NUMBER_ALONE}, or {{ min = 1, max = 8 }}"
REFUSED = [
    ("workers = true", f"workers: true is a boolean; {NUMBER_OF_WORKERS}"),
    ("workers = 0", f"workers: 0 is out of range; {NUMBER_OF_WORKERS}"),
    ("workers = -1", f"workers: -1 is out of range; {NUMBER_OF_WORKERS}"),
    ("workers = 257", f"workers: 257 is out of range; {NUMBER_OF_WORKERS}"),
    ("workers = 2.0", f"workers: 2.0 is a number; {NUMBER_OF_WORKERS}"),
    ("workers = inf", f"workers: inf is a number; {NUMBER_OF_WORKERS}"),
    ('workers = "4"', f'workers: "4" is text; {NUMBER_OF_WORKERS}'),
    ("workers = [4]", f"workers: an array is not right here; {NUMBER_OF_WORKERS}"),
    ("workers = {}", "workers: has no min; write { min = 1, max = 8 }; has no max"),
    ("workers = { max = 8 }", "workers: has no min; write { min = 1, max = 8 }"),
    ("workers = { min = 5, max = 4 }", "workers: min 5 is above max 4; write the smaller number as min"),
    ("workers = { min = 0, max = 4 }", f"workers: min: 0 is out of range; {NUMBER_ALONE}"),
    ("workers = { min = 1, max = 257 }", f"workers: max: 257 is out of range; {NUMBER_ALONE}"),
    ('workers = { min = "1", max = true }', 'workers: min: "1" is text; write an integer from 1 to 256; max: true is'),
    ("workers = { min = 1, max = 4, mean = 2 }", "workers: mean: unknown key; write min and max"),
    ("workers = { min = { a = 1 }, max = 4 }", f"workers: min: a table is not right here; {NUMBER_ALONE}"),
    ("scale = 1", "scale: is no table"),
    ("scale.latency = 1", 'scale.latency: 1 has no unit; write a duration from "1ms" to "1d"'),
    ('scale.down_after = "1ms"', 'scale.down_after: "1ms" is out of range; write a duration from "100ms" to "1d"'),
    ("scale.cpu_max = 0", "scale.cpu_max: 0 is out of range; write a number from 0.01 to 1"),
    ("scale.cpu_max = 90", "scale.cpu_max: 90 is out of range"),
    ("scale.memory_min = 256", 'scale.memory_min: 256 has no unit; write a size from "1B" to "1024GiB"'),
    ("scale.step = 2", "scale.step: unknown key"),
    (
        'scale = { latency = "2s" }',
        "scale: means something only between two numbers of workers; write workers = { min = 1, max = 8 }, or remove",
    ),
    ("workers = 1979-05-27", f"workers: a date or time is not right here; {NUMBER_OF_WORKERS}"),
    ("max_attempts = 1180591620717411303424", "max_attempts: a huge number is out of range"),
    ("max_attempts = 0x" + "f" * 5000, "max_attempts: a huge number is out of range"),
    ("backoff.factor = inf", "backoff.factor: inf is not finite; write a number from 1 to 100"),
    ("backoff.factor = nan", "backoff.factor: nan is not finite"),
    ("backoff.factor = true", "backoff.factor: true is a boolean"),
    ("backoff.factor = 0.5", "backoff.factor: 0.5 is out of range"),
    ("backoff.jitter = 1.1", "backoff.jitter: 1.1 is out of range"),
    ("backoff.jitter = 1" + "0" * 400, "backoff.jitter: a huge number is out of range"),
    ("backoff = true", "backoff: true is a boolean; write a table, an array of durations, or"),
    ("timeout = 30", 'timeout: 30 has no unit; write a duration from "1ms" to "30d"'),
    ("timeout = 0.5", "timeout: 0.5 has no unit"),
    ("timeout = inf", "timeout: inf has no unit"),
    ("timeout = true", "timeout: true is a boolean"),
    ('timeout = "30"', 'timeout: "30": 30 has no unit; write a number and ms, s, m, h or d'),
    ('timeout = "5 minutes"', 'timeout: "5 minutes": not a duration'),
    ('timeout = "0s"', 'timeout: "0s" is out of range'),
    ('timeout = "31d"', 'timeout: "31d" is out of range'),
    ('timeout = "-5s"', 'timeout: "-5s": not a duration'),
    ("retention.dead = 5", 'retention.dead: 5 has no unit; write "never" or a duration'),
    ('retention.dead = "nevr"', 'retention.dead: "nevr": not a duration'),
    ("max_payload = 1024", 'max_payload: 1024 has no unit; write a size from "2B" to "8MiB"'),
    ("max_payload = true", "max_payload: true is a boolean"),
    ('max_payload = "1M"', 'max_payload: "1M" is not a size'),
    ('max_payload = "9MiB"', 'max_payload: "9MiB" is out of range'),
    ('max_payload = "999999999999999GiB"', 'max_payload: "999999999999999GiB" is out of range'),
    ('network = "true"', 'network: "true" is text, not a boolean; write true or false'),
    ("network = 1", "network: 1 is an integer; write true or false"),
    ("order = 1", 'order: 1 is an integer; write "fifo", "lifo", "priority", "fair", or an array'),
    ("order = []", 'order: an array is not right here; write "fifo"'),
    ('order = ["priority", 1]', "order: an array is not right here; write"),
    ('order = ["priority", "fare"]', 'order: "fare" is not known here; did you mean fair?'),
    ('order = ["priority", "priority"]', "names an order twice; write"),
    (
        'order = ["fifo", "priority"]',
        "order: fifo and lifo settle everything; write one of them at most, and as the last of an array",
    ),
    (
        'order = ["fair", "fifo", "lifo"]',
        "order: fifo and lifo settle everything; write one of them at most, and as the last of an array",
    ),
    ('ageing = "10ms"', 'ageing: "10ms" is out of range; write a duration from "1s"'),
    ("weights = 3", "weights: 3 is an integer; write a table of whole numbers from 1 to 1000, such as { acme = 3 }"),
    ("weights = { a = 0 }", "weights: a: 0 is no weight; write a table of whole numbers from 1 to 1000"),
    ("weights = { a = true }", "weights: a: true is no weight; write a table of whole numbers"),
    ("weights = { a = 1.5 }", "weights: a: 1.5 is no weight; write a table of whole numbers"),
    (
        "weights = { " + ", ".join(f"k{number} = 1" for number in range(1_001)) + " }",
        "weights: has 1001 members; write at most 1000",
    ),
    ('unique = { by = ["a..b"] }', 'unique.by: element 1: "a..b" is not right here'),
    ('unique = { by = ["."] }', 'unique.by: element 1: "." is not right here'),
    ('after_dead = "stop"', 'after_dead: "stop" is not known here; known are block, dead_letter, skip'),
    ("concurrency = 0", "concurrency: 0 is out of range; write an integer from 1 to 100000"),
    ("key_concurrency = -1", "key_concurrency: -1 is out of range; write an integer from 1 to 100000"),
    ('rate = "10/s"', "rate: is no table; write it as [queues.q.rate] with keys below"),
    ("rate = { limit = -5 }", "rate.limit: -5 is out of range; write an integer from 1 to 1000000"),
    ("rate = { limit = 0.5 }", "rate.limit: 0.5 is a number; write an integer"),
    ("rate = { limit = 1000001 }", "rate.limit: 1000001 is out of range; write an integer from 1 to 1000000"),
    ('rate = { limit = 1, period = "0s" }', 'rate.period: "0s" is out of range; write a duration from "1ms" to "30d"'),
    ('rate = { limit = 1, period = "-1s" }', 'rate.period: "-1s": not a duration'),
    ("rate = { limit = 1, period = 60 }", "rate.period: 60 has no unit; write a duration"),
    ('rate = { limit = 1, algorithm = "token" }', 'rate.algorithm: "token" is not known here; known are bucket, leaky'),
    ("rate = { limt = 1 }", "rate.limt: unknown key; did you mean limit?"),
    ('key_rate = { limit = 1, period = "31d" }', 'key_rate.period: "31d" is out of range'),
    ('limits = "smtp"', 'limits: "smtp" is text; write an array'),
    ('limits = ["SMTP"]', 'limits: element 1: "SMTP" is not right here; write a name of lower-case letters'),
    ("max_size = 0", "max_size: 0 is out of range; write an integer from 1"),
    ('when_full = "drop"', 'when_full: "drop" is not known here; known are drop_oldest, refuse, wait'),
    ("unique = true", "unique: is no table; write it as [queues.q.unique]"),
    ('unique = { while = ["wating"] }', 'unique.while: element 1: "wating" is not known here'),
    ("unique = { while = [] }", "unique.while: has 0 elements; write 1 to 256"),
    ('unique = { on_conflict = "skip" }', 'unique.on_conflict: "skip" is not known here; known are existing, refuse'),
    ('unique = { replace = ["key"] }', 'unique.replace: element 1: "key" is not known here'),
    ('throttle = "0s"', 'throttle: "0s" is out of range'),
    ('debounce = "31d"', 'debounce: "31d" is out of range'),
    ("demand = { min = 0 }", "demand.min: 0 is out of range; write an integer from 1 to 256"),
    ('order = "filo"', 'order: "filo" is not known here; did you mean fifo?'),
    ("preload = 1", 'preload: 1 is an integer; write "auto", true or false'),
    ('preload = "yes"', 'preload: "yes" is not known here; write "auto", true or false'),
    ('pass_env = "TZ"', 'pass_env: "TZ" is text; write an array'),
    ('pass_env = ["A B", "OK", 3]', 'pass_env: element 1: "A B" is not right here; write the name of an environment'),
    ('pass_env = ["A B", "OK", 3]', "element 3: 3 is an integer"),
    ("pass_env = [" + '"A",' * 257 + "]", "pass_env: has 257 elements; write 0 to 256"),
    ("env = 1", "env: 1 is an integer; write a table of text"),
    ("env = { A = 1 }", "env: A: 1 is an integer; write text in quotes"),
    ('env = { "A B" = "1" }', 'env: "A B": is no name of a variable'),
    ('env = { JOBSUP_TOKEN = "1" }', "env: JOBSUP_TOKEN: is set by jobsup itself"),
    ('env = { A = "a\\u0000b" }', "holds a NUL"),
    (f'env = {{ A = "{"x" * 131_072}" }}', "is longer than the kernel takes, 128 KiB"),
    (f"env = {{ {', '.join(f'A{i} = 1' for i in range(257))} }}", "env: has 257 variables; write at most 256"),
    ('cwd = ""', 'cwd: "" is not right here; write a path'),
    ('cwd = "~/app"', 'cwd: "~/app" begins with ~, which only shells replace'),
    ('cwd = "a\\u0000b"', "holds a control character"),
    ('cwd = "a\\u001b[2J"', 'cwd: "a\\u001b[2J" holds a control character'),
    (f'cwd = "{"x" * 4097}"', "is longer than 4096 characters"),
    ("cwd = 1", "cwd: 1 is an integer; write a path"),
    ('user = "a b"', 'user: "a b" is not right here; write the name of a user'),
    ('after_fork = "a.b"', 'after_fork: "a.b" names no function; write'),
    ('after_fork = "a/b.py:c"', 'after_fork: "a/b.py:c" is no module and function'),
    ('after_fork = "a b"', 'after_fork: "a b" is no module and function'),
    ('after_fork = "a:b()"', 'after_fork: "a:b()" is no module and function'),
    ('after_fork = "a:class"', 'after_fork: "a:class" is no module and function'),
    ('after_fork = "a:b:c"', 'after_fork: "a:b:c" is no module and function'),
    ('after_fork = ":b"', 'after_fork: ":b" is no module and function'),
    ("recycle_jobs = 0", "recycle_jobs: 0 is out of range"),
]


@pytest.mark.parametrize(("line", "sentence"), REFUSED, ids=[line[:40] for line, _ in REFUSED])
def test_a_wrong_value_is_one_problem_that_says_what_would_be_right(tmp_path: Path, line: str, sentence: str) -> None:
    found = problems_of(tmp_path, QUEUE + line)
    assert len(found) == 1
    assert found[0].startswith("queues.toml:3: queues.q.")
    assert sentence in found[0]
    assert "; " in found[0]


COMMANDS = [
    ('command = "ls -l"', 'command: "ls -l" is text, and no shell splits it; write an array of arguments'),
    ("command = 3", "command: 3 is an integer; write an array of arguments"),
    ("command = []", "command: has 0 elements; write the program"),
    ("command = [" + '"a",' * 257 + "]", "command: has 257 elements"),
    ('command = ["{program}"]', "command: the program to run is fixed"),
    ('command = [""]', "command: the program to run is fixed"),
    ('command = ["x", "--a={b}", "ok", "{"]', "command: element 2: a field fills a whole argument"),
    ('command = ["x", "--a={b}", "ok", "{"]', "element 4: write {{ for a brace"),
    ('command = ["x", 5]', "command: element 2: 5 is an integer; write text"),
    ('command = ["x", "a\\u0000b"]', "command: element 2: "),
    (f'command = ["x", "{"y" * 131_072}"]', "is longer than the kernel takes"),
]


@pytest.mark.parametrize(("line", "sentence"), COMMANDS, ids=[line[:40] for line, _ in COMMANDS])
def test_a_wrong_command_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    found = problems_of(tmp_path, f"[queues.q]\n{line}\n")
    assert len(found) == 1
    assert found[0].startswith("queues.toml:2: queues.q.")
    assert sentence in found[0]


@pytest.mark.parametrize(
    ("program", "resolved"),
    [("sha256sum", "sha256sum"), ("/bin/true", "/bin/true"), ("./x", "{folder}/x"), ("../bin/x", "{parent}/bin/x")],
)
def test_a_program_with_a_slash_is_relative_to_the_file(tmp_path: Path, program: str, resolved: str) -> None:
    queue = load_text(tmp_path, f'[queues.q]\ncommand = ["{program}", "./y"]\n').queues["q"]
    assert queue.command == (resolved.format(folder=tmp_path, parent=tmp_path.parent), "./y")


DAEMON = [
    ('[daemon]\ndatabase = "postgresql://db/jobs"', "daemon.database: PostgreSQL belongs to a later version"),
    ('[daemon]\ndatabase = "../var/"', 'daemon.database: "../var/" names no file'),
    ('[daemon]\ndatabase = ":memory:"', 'daemon.database: ":memory:" names no file'),
    ("[daemon]\ndatabase = 1", "daemon.database: 1 is an integer"),
    ('[daemon]\nrun_dir = "."\ndatabase = "."', "daemon.database: is the run_dir or the socket itself"),
    ("[daemon]\nshutdown_grace = 30", "daemon.shutdown_grace: 30 has no unit"),
    ('[log]\ntarget = "stdrr"', 'log.target: "stdrr" is no target, and a path has a / in it; did you mean stderr?'),
    ("[log]\ntarget = 1", "log.target: 1 is an integer"),
    ("[intake]\nflush_max_jobs = 10001", "intake.flush_max_jobs: 10001 is out of range"),
    ('[access]\nadmin = ["alice"]', 'access.admin: element 1: "alice" is not right here; write "user:NAME"'),
    ("daemon = 1", "daemon: is no table; write it as [daemon]"),
    ("queues = 1", "queues: is no table; write one [queues.NAME]"),
    ("[[queues]]", "queues: is no table"),
    ("[queues]\nq = 1", "queues.q: is no table; write it as [queues.q]"),
    ("[defaults]\nbackoff = 1", "defaults.backoff: 1 is an integer; write a table, an array of durations, or"),
    ("[queue.q]", "queue: unknown section; did you mean queues?"),
    ('[defaults]\nhandler = "m:f"', "defaults.handler: is not inherited; write it in each [queues.NAME]"),
    ('[defaults]\nbackoff = { base = "2h", max = "1h" }', "defaults.backoff.max: 1h is below base, 2h"),
]


@pytest.mark.parametrize(("text", "sentence"), DAEMON, ids=[text.replace("\n", " ") for text, _ in DAEMON])
def test_a_wrong_section_is_one_problem(tmp_path: Path, text: str, sentence: str) -> None:
    found = problems_of(tmp_path, text)
    assert len(found) == 1
    assert sentence in found[0]


@pytest.mark.parametrize(
    ("target", "kept"), [("auto", "auto"), ("journald", "journald"), ("./a.log", "/etc/a.log"), ("/b", "/b")]
)
def test_a_log_target_is_a_word_or_a_path(target: str, kept: str) -> None:
    assert LOG_TARGET.read(target, "/etc") == kept


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(1, "1B"), (1024, "1KiB"), (1000, "1kB"), (8 * 2**20, "8MiB"), (2**30, "1GiB"), (10**9, "1GB"), (10**6, "1MB")],
)
def test_sizes_are_shown_in_the_largest_unit_that_is_exact(size_bytes: int, text: str) -> None:
    assert show_size(size_bytes) == text
    assert size(1, 2**40).read(text, "") == size_bytes


def test_a_word_beside_a_kind_is_shown_as_the_word() -> None:
    kind = or_word("never", None, integer(1, 9))
    assert [kind.show(value) for value in (None, 4)] == ["never", 4]


@pytest.mark.parametrize("written", ["auto", True, False])
def test_preload_is_shown_as_it_was_written(written: str | bool) -> None:
    assert PRELOAD.show(PRELOAD.read(written, "")) is written
