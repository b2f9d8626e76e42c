"""Loading: what a file means, what is inherited, what the environment and the command line add."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.config.load import find, load
from supervisor.config.locate import default_paths
from supervisor.config.spec import Backoff, Daemon, Queue, Scale, Spec
from supervisor.errors import ConfigError
from tests.support.config_files import QUEUE, load_text, problems, problems_of, write


def test_a_queue_without_keys_has_the_defaults_of_its_class(tmp_path: Path) -> None:
    assert load_text(tmp_path, QUEUE).queues == {"q": Queue(name="q", handler="m:f")}


def test_a_queue_inherits_from_defaults_and_has_the_last_word(tmp_path: Path) -> None:
    text = """
[defaults]
workers = 7
order = "lifo"
env = { A = "defaults", B = "defaults" }
backoff = { base = "3s", max = "9s" }
[queues.q]
command = ["true"]
workers = 1
env = { B = "own", C = "own" }
backoff.max = "30s"
"""
    queue = load_text(tmp_path, text).queues["q"]
    assert (queue.workers, queue.order) == (1, ("lifo",))
    assert queue.env == {"A": "defaults", "B": "own", "C": "own"}
    assert queue.backoff == Backoff(base_ms=3_000, max_ms=30_000)


def test_queues_keep_the_order_of_the_file(tmp_path: Path) -> None:
    names = ["zebra", "ant", "m-1.x_y"]
    text = "".join(f'[queues."{name}"]\nhandler = "m:f"\n' for name in names)
    assert list(load_text(tmp_path, text).queues) == names


def test_python_path_reaches_every_queue(tmp_path: Path) -> None:
    spec = load_text(tmp_path, QUEUE + '[daemon]\npython_path = ["../app", "/srv"]\n')
    expected = (str(tmp_path.parent / "app"), "/srv")
    assert (spec.daemon.python_path, spec.queues["q"].python_path) == (expected, expected)


def test_paths_are_relative_to_the_file_they_stand_in(tmp_path: Path) -> None:
    main = write(tmp_path, QUEUE + 'cwd = "work"\n[daemon]\nrun_dir = "./run"\ndatabase = "/db/jobs.db"\n')
    write(tmp_path, '[queues.r]\nhandler = "m:f"\ncwd = "work"\n', "queues.d/r.toml")
    spec = load(main, environ={})
    assert (spec.daemon.run_dir, spec.daemon.database) == (str(tmp_path / "run"), "/db/jobs.db")
    assert spec.queues["q"].cwd == str(tmp_path / "work")
    assert spec.queues["r"].cwd == str(tmp_path / "queues.d" / "work")


@pytest.mark.parametrize(
    ("main", "database", "run_dir"),
    [
        ("/etc/jobsup/queues.toml", "/var/lib/jobsup/jobs.db", "/run/jobsup"),
        ("/srv/app/etc/queues.toml", "/srv/app/var/jobs.db", "/srv/app/run"),
        ("/etcetera/queues.toml", "/var/jobs.db", "/run"),
    ],
)
def test_places_default_to_the_systems_for_a_file_below_etc(main: str, database: str, run_dir: str) -> None:
    assert default_paths(main) == (database, run_dir)


def test_unset_places_are_beside_the_file(tmp_path: Path) -> None:
    parent = tmp_path.parent
    expected = Daemon(database=f"{parent}/var/jobs.db", run_dir=f"{parent}/run")
    assert load_text(tmp_path, QUEUE).daemon == expected


@pytest.mark.parametrize("length", [107, 108])
def test_the_socket_path_may_have_107_bytes(tmp_path: Path, length: int) -> None:
    run_dir = "/" + "r" * (length - len("/jobsup.sock") - 1)
    text = f'{QUEUE}[daemon]\nrun_dir = "{run_dir}"\n'
    if length == 107:
        assert len(load_text(tmp_path, text).daemon.socket) == length
    else:
        assert "would have a path of 108 bytes" in problems_of(tmp_path, text)[0]


def test_a_file_without_queues_is_valid_and_warned_about(tmp_path: Path) -> None:
    spec = load_text(tmp_path, "[defaults]\nworkers = 1\n")
    assert spec.queues == {}
    assert spec.warnings == (f"{tmp_path}/queues.toml:1: queues: there is no queue; write a [queues.NAME]",)


@pytest.mark.parametrize("name", ["a", "0", "a.b-c_d", "a" * 63, "9lives"])
def test_names_of_queues(tmp_path: Path, name: str) -> None:
    assert list(load_text(tmp_path, f'[queues."{name}"]\nhandler = "m:f"\n').queues) == [name]


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "_a", "a b", "é", "a" * 64, "a/b", "a\\n", "*_tenant", "٣"])
def test_other_names_are_refused(tmp_path: Path, name: str) -> None:
    (found,) = problems_of(tmp_path, f'[queues."{name}"]\nhandler = "m:f"\n')
    assert "write a name of lower-case letters" in found


@pytest.mark.parametrize("name", ["tenant_*_*", "A*", "-*", "a" * 63 + "*"])
def test_other_patterns_are_refused(tmp_path: Path, name: str) -> None:
    (found,) = problems_of(tmp_path, f'[queues."{name}"]\nhandler = "m:f"\n')
    assert "write a name of a queue, or its beginning and a * for all that begin so" in found


def test_all_problems_are_reported_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """\
[queues.b]
handler = "m:f"
command = ["x"]
[queues.a]
[queues.c]
command = ["x"]
preload = true
timeout = 3
[daemon]
durabilty = "full"
"""
    assert [problem.split(": ")[:2] for problem in problems_of(tmp_path, text)] == [
        ["queues.toml:3", "queues.b.command"],
        ["queues.toml:4", "queues.a"],
        ["queues.toml:7", "queues.c.preload"],
        ["queues.toml:8", "queues.c.timeout"],
        ["queues.toml:10", "daemon.durabilty"],
    ]


def test_a_wrong_value_hides_nothing_of_what_a_queue_lacks(tmp_path: Path) -> None:
    both = '[queues.a]\nhandler = "m:f"\ncommand = ["true"]\ntimeout = 5\n[queues.b]\ntimeout = 5\n'
    found = "\n".join(problems_of(tmp_path, both))
    for said in ("queues.a.timeout:", "queues.a.command: stands beside handler", "queues.b.timeout:",
                 "queues.b: says neither what to call"):  # fmt: skip
        assert said in found, found


def test_a_key_for_handlers_only_is_refused_in_a_queue_with_a_command(tmp_path: Path) -> None:
    found = problems_of(tmp_path, '[queues.c]\ncommand = ["x"]\npreload = true\nafter_fork = "a:b"\n')
    assert [problem.split(": ")[1] for problem in found] == ["queues.c.preload", "queues.c.after_fork"]


def test_a_queue_with_a_command_does_not_inherit_what_is_for_handlers_only(tmp_path: Path) -> None:
    text = '[defaults]\npreload = true\nafter_fork = "a:b"\n[queues.c]\ncommand = ["x"]\n' + QUEUE
    queues = load_text(tmp_path, text).queues
    assert queues["c"] == Queue(name="c", command=("x",))
    assert queues["q"] == Queue(name="q", handler="m:f", preload="always", after_fork="a:b")


def test_what_does_not_go_together_is_blamed_on_the_line_it_came_from(tmp_path: Path) -> None:
    text = '[defaults]\nbackoff.max = "1h"\n' + QUEUE + 'backoff.base = "2h"\n'
    assert problems_of(tmp_path, text) == [
        "queues.toml:5: queues.q.backoff.max: 1h is below base, 2h; raise one or lower the other"
    ]


def test_a_wrong_default_is_one_problem_however_many_inherit_it(tmp_path: Path) -> None:
    text = '[defaults]\nbackoff = { base = "2h", max = "1h" }\n' + QUEUE + '[queues.r]\nhandler = "m:f"\n'
    (found,) = problems_of(tmp_path, text)
    assert found.startswith("queues.toml:2: defaults.backoff.max: ")


def test_all_workers_together_are_bounded(tmp_path: Path) -> None:
    text = "[defaults]\nworkers = 256\n" + "".join(f'[queues.q{i}]\nhandler = "m:f"\n' for i in range(9))
    assert problems_of(tmp_path, text) == ["queues.toml:3: queues: have 2304 workers together; write at most 2048"]


class TestLimits:
    """Each limit is reached here and passed elsewhere."""

    def test_a_file_of_256_kib(self, tmp_path: Path) -> None:
        whole = QUEUE + "#" * (256 * 1024 - len(QUEUE))
        assert len(load_text(tmp_path, whole).queues) == 1
        assert "is larger than 256 KiB" in problems_of(tmp_path, whole + "#")[0]

    def test_files_of_1_mib_together(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE + "#" * (256 * 1024 - len(QUEUE)))
        for number in range(3):
            write(tmp_path, "#" * 256 * 1024, f"queues.d/{number}.toml")
        assert len(load(main, environ={}).files) == 4
        write(tmp_path, "#", "queues.d/3.toml")
        assert "is one file too many" in problems(main)[0]

    def test_256_drop_ins_and_256_queues(self, tmp_path: Path) -> None:
        main = write(tmp_path, "[defaults]\nworkers = 8\n")
        for number in range(256):
            write(tmp_path, f'[queues.q{number}]\nhandler = "m:f"\n', f"queues.d/{number}.toml")
        assert sum(queue.workers_max for queue in load(main, environ={}).queues.values()) == 2048
        assert problems(main, ["queues.more.handler=m:f"])[0].endswith("queues: are 257; write at most 256")
        assert "have 2049 workers together" in problems(main, ["queues.q0.workers=9"])[0]

    def test_a_longest_delay_that_is_the_first(self, tmp_path: Path) -> None:
        queue = load_text(tmp_path, QUEUE + 'backoff = { base = "2s", max = "2s" }\n').queues["q"]
        assert queue.backoff == Backoff(base_ms=2_000, max_ms=2_000)

    @pytest.mark.parametrize(
        ("parts", "problem"), [(8, "unknown section"), (9, "a key of 9 parts; none has that many")]
    )
    def test_keys_of_the_command_line(self, tmp_path: Path, parts: int, problem: str) -> None:
        (found,) = problems_of(tmp_path, QUEUE, [".".join("a" * parts) + "=1"])
        assert problem in found

    @pytest.mark.parametrize(("length", "problem"), [(65_536, " is longer than"), (65_537, "is no setting")])
    def test_settings_of_64_kib(self, tmp_path: Path, length: int, problem: str) -> None:
        (found,) = problems_of(tmp_path, QUEUE, ["defaults.cwd=".ljust(length, "x")])
        assert problem in found


class TestLookup:
    def test_a_named_file_comes_first_whether_it_exists_or_not(self) -> None:
        assert find("a/b.toml", {"JOBSUP_CONFIG": "/c.toml"}) == Path(os.path.abspath("a/b.toml"))

    def test_then_the_environment(self) -> None:
        assert find(None, {"JOBSUP_CONFIG": "/c.toml"}) == Path("/c.toml")

    def test_then_etc_below_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        expected = write(tmp_path, QUEUE, "etc/queues.toml")
        assert find(None, {"JOBSUP_CONFIG": ""}) == expected

    def test_else_there_is_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("supervisor.config.lookup.PLACES", ("etc/queues.toml", f"{tmp_path}/system.toml"))
        with pytest.raises(ConfigError, match=r"no configuration: neither etc/queues.toml nor .*/system.toml exists"):
            find(None, {})


class TestEnvironment:
    def test_values_come_from_the_environment_or_their_default(self, tmp_path: Path) -> None:
        text = """[queues.q]
command = ["${TOOL}", "${OPTION:---fast}", "$${kept}", "$HOME", "${EMPTY:-filled}"]
workers = "${WORKERS}"
timeout = "${TIMEOUT:-9}s"
network = "${NETWORK:-true}"
backoff.factor = "${FACTOR:-1.5}"
env = { A = "${TOOL}/x" }
cwd = "${DIR:-}/srv"
"""
        environ = {"TOOL": "tar", "WORKERS": "3", "EMPTY": ""}
        text = text.replace('"$${kept}", ', "")
        queue = load_text(tmp_path, text, environ=environ).queues["q"]
        assert queue.command == ("tar", "--fast", "$HOME", "filled")
        assert (queue.workers, queue.timeout_ms, queue.network, queue.backoff.factor) == (3, 9_000, True, 1.5)
        assert (queue.env, queue.cwd) == ({"A": "tar/x"}, "/srv")

    def test_two_dollars_are_the_characters_themselves(self, tmp_path: Path) -> None:
        spec = load_text(tmp_path, QUEUE + "env = { A = '$${HOME} $$ $x' }\n", environ={"HOME": "/root"})
        assert spec.queues["q"].env == {"A": "${HOME} $$ $x"}

    @pytest.mark.parametrize(
        ("line", "sentence"),
        [
            ('cwd = "${NOPE}"', "the environment variable NOPE is not set; set it, or write ${NOPE:-default}"),
            ('cwd = "${EMPTY}"', "the environment variable EMPTY is not set"),
            ('cwd = "${9}"', "a brace after $ that is no reference; write ${NAME} or ${NAME:-default}"),
            ('cwd = "${A"', "a brace after $ that is no reference"),
            ('cwd = "${A-b}"', "a brace after $ that is no reference"),
            ('workers = "${W:-many}"', 'workers: "many" is text; write an integer'),
            ('workers = "${W:-300}"', "workers: 300 is out of range"),
            ('workers = "3"', 'workers: "3" is text'),
            ('network = "${N:-yes}"', 'network: "yes" is text, not a boolean'),
            ('backoff.factor = "${F:-inf}"', 'backoff.factor: "inf" is text'),
            ('env = { A = "${BYTES}" }', "is not UTF-8"),
            ('user = "${BYTES:-x}"', "is not UTF-8"),
            ('redact = ["${BYTES}"]', "is not UTF-8"),
        ],
    )
    def test_what_cannot_be_replaced_is_a_problem(self, tmp_path: Path, line: str, sentence: str) -> None:
        environ = {"EMPTY": "", "BYTES": os.fsdecode(b"\xff")}
        (found,) = problems_of(tmp_path, QUEUE + line, environ=environ)
        assert sentence in found
        assert found.isprintable()

    @pytest.mark.parametrize("line", ['run_dir = "${X}"', 'database = "/a/${X:-b}"', 'python_path = ["a", "${X}"]'])
    def test_paths_of_the_daemon_take_none(self, tmp_path: Path, line: str) -> None:
        (found,) = problems_of(tmp_path, f"{QUEUE}[daemon]\n{line}\n", environ={"X": "x"})
        assert "paths of [daemon] take no environment values" in found

    def test_other_keys_of_the_daemon_do(self, tmp_path: Path) -> None:
        spec = load_text(tmp_path, f'{QUEUE}[daemon]\nshutdown_grace = "${{G}}"\n', environ={"G": "7s"})
        assert spec.daemon.shutdown_grace_ms == 7_000


class TestDropIns:
    def test_they_are_read_in_byte_order_and_the_last_has_the_word(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE + "workers = 1\n")
        write(tmp_path, QUEUE + "workers = 2\n", "queues.d/B.toml")
        write(tmp_path, QUEUE + 'order = "lifo"\n', "queues.d/a.toml")
        for ignored in ("queues.d/z.toml~", "queues.d/.z.toml", "queues.d/z.toml.dpkg-new", "queues.d/z"):
            write(tmp_path, QUEUE + "workers = 9\n", ignored)
        spec = load(main, environ={})
        assert [Path(file).name for file in spec.files] == ["queues.toml", "B.toml", "a.toml"]
        assert (spec.queues["q"].workers, spec.queues["q"].order) == (2, ("lifo",))
        assert [warning.replace(f"{tmp_path}/", "") for warning in spec.warnings] == [
            "queues.d/B.toml:1: queues.q: replaces the queue at queues.toml:1 as a whole; delete one of them",
            "queues.d/a.toml:1: queues.q: replaces the queue at queues.d/B.toml:1 as a whole; delete one of them",
        ]

    def test_they_inherit_the_defaults_of_the_main_file(self, tmp_path: Path) -> None:
        main = write(tmp_path, "[defaults]\nworkers = 5\n")
        write(tmp_path, QUEUE, "queues.d/q.toml")
        spec = load(main, environ={})
        assert (spec.queues["q"].workers, spec.warnings) == (5, ())

    def test_they_hold_queues_and_schedules_only(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE)
        write(tmp_path, '[daemon]\ndurability = "relaxed"\n[queues]\n', "queues.d/d.toml")
        assert problems(main) == [
            (
                "queues.d/d.toml:1: daemon: stands in a drop-in, which holds [queues.NAME] and [schedules.NAME] only; "
                "move it into the main file"
            )
        ]

    def test_problems_of_all_files_come_together(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE + "workers = 0\n")
        write(tmp_path, '[queues.r]\nhandler = "m:"\n', "queues.d/1.toml")
        write(tmp_path, "queues = [\n", "queues.d/2.toml")
        os.mkfifo(tmp_path / "queues.d" / "3.toml")
        found = problems(main)
        assert sorted(problem.split(": ")[0] for problem in found) == [
            "queues.d/1.toml:2",
            "queues.d/2.toml:2",
            "queues.d/3.toml:1",
            "queues.toml:3",
        ]

    def test_they_are_reported_beside_a_main_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        write(tmp_path, "[", "queues.d/1.toml")
        assert len(problems(tmp_path / "queues.toml")) == 2

    def test_there_are_at_most_256(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE)
        for number in range(257):
            write(tmp_path, "", f"queues.d/{number}.toml")
        assert problems(main) == ["queues.toml:1: file: has 257 drop-ins; at most 256 are read"]

    def test_all_files_together_are_bounded(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE)
        for number in range(5):
            write(tmp_path, "#" * 250_000, f"queues.d/{number}.toml")
        assert problems(main) == ["queues.d/4.toml:1: file: is one file too many: all files together may have 1 MiB"]

    def test_a_world_writable_folder_of_them_is_refused(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE)
        write(tmp_path, "", "queues.d/a.toml")
        (tmp_path / "queues.d").chmod(0o777)
        assert any("queues.d can be written by everyone" in problem for problem in problems(main))

    def test_a_file_in_their_place_is_a_problem(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE)
        write(tmp_path, "", "queues.d")
        assert problems(main) == ["queues.toml:1: file: queues.d cannot be read: Not a directory"]

    def test_a_name_that_is_not_utf8_is_a_problem(self, tmp_path: Path) -> None:
        main = write(tmp_path, QUEUE)
        write(tmp_path, "", os.fsdecode(b"queues.d/\xff.toml"))
        (found,) = problems(main)
        assert "has a name with control characters or bytes that are not UTF-8; rename it" in found


class TestSettings:
    def test_they_come_last(self, tmp_path: Path) -> None:
        text = QUEUE + 'workers = 1\n[queues."a.b"]\ncommand = ["x"]\n'
        settings = [
            "queues.q.workers=4",
            'queues."a.b".order = "lifo"',
            "defaults.timeout=90s",
            'defaults.backoff={ base = "2s" }',
            "daemon.run_dir=run",
            'queues."a.b".command=["y", "{z}"]',
            "queues.new.handler=m:f",
            "log.level=debug",
            "queues.q.network=true",
            "queues.q.env.TOKEN=a=b\nc = 1",
        ]
        spec = load_text(tmp_path, text, settings)
        assert (spec.queues["q"].workers, spec.queues["q"].network) == (4, True)
        assert (spec.queues["a.b"].order, spec.queues["a.b"].command) == (("lifo",), ("y", "{z}"))
        assert spec.queues["new"] == Queue(name="new", handler="m:f", timeout_ms=90_000, backoff=Backoff(base_ms=2_000))
        assert (spec.daemon.run_dir, spec.log.level) == (str(tmp_path / "run"), "debug")
        assert spec.queues["q"].env == {"TOKEN": "a=b\nc = 1"}

    def test_they_reach_queues_of_drop_ins(self, tmp_path: Path) -> None:
        main = write(tmp_path, "[defaults]\n")
        write(tmp_path, QUEUE, "queues.d/q.toml")
        spec = load(main, ["queues.q.workers=4"], {})
        assert spec.queues == {"q": Queue(name="q", handler="m:f", workers=4)}

    @pytest.mark.parametrize(
        ("setting", "problem"),
        [
            ("workers=4", '--set:1: file: "workers=4" is no setting; write section.key=value'),
            ("", '--set:1: file: "" is no setting'),
            ("a.b", '--set:1: file: "a.b" is no setting'),
            (".a=1", '--set:1: file: ".a=1" is no setting'),
            ("defaults.workers=x", '--set:1: defaults.workers: "x" is text; write an integer'),
            ("defaults.wrkers=1", "--set:1: defaults.wrkers: unknown key; did you mean workers?"),
            ("queues.q=1", "--set:1: file: queues.q is no key of a queue; write queues.NAME.KEY=value"),
            ("defaults.workers.x=1", "--set:1: file: defaults.workers is no table; write a key of a section"),
            (f"defaults.workers={'[' * 1000}", "--set:1: file: a value nested deeper than 8 levels"),
            (f"{'a.' * 20}a=1", "--set:1: file: a key of 21 parts; none has that many"),
            (f"defaults.workers={'1' * 70_000}", "is no setting"),
            (f"defaults.workers={'1' * 60_000}", "--set:1: defaults.workers: "),
            ("web.port=80", "--set:1: web: belongs to a later version of jobsup (the web interface)"),
            ("defaults.user=\udcff", "is not UTF-8"),
        ],
    )
    def test_a_wrong_one_is_a_problem_of_the_command_line(self, tmp_path: Path, setting: str, problem: str) -> None:
        (found,) = problems_of(tmp_path, QUEUE + "[defaults]\nworkers = 1\n", [setting])
        assert problem in found
        assert found.isprintable()

    def test_one_for_a_queue_does_not_hide_that_queues_is_no_table(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path, "queues = 1\n", ["queues.a.env.X=1"]) == [
            "queues.toml:1: queues: is no table; write one [queues.NAME] for each queue",
            "--set:1: file: queues is no table; write a key of a section",
        ]


def test_a_queue_that_is_no_table_is_shown_harmlessly(tmp_path: Path) -> None:
    found = problems_of(tmp_path, '[queues]\n"q\\u202e" = 1\n')
    assert 'queues."q\\u202e": is no table; write it as [queues."q\\u202e"]' in found[1]


def test_the_same_text_gives_the_same_spec(tmp_path: Path) -> None:
    assert load_text(tmp_path, QUEUE) == load_text(tmp_path, QUEUE)
    assert load_text(tmp_path, QUEUE) != Spec()


def test_bounds_of_workers_may_come_from_the_environment_and_scale_from_the_defaults(tmp_path: Path) -> None:
    text = """
[defaults]
workers = { min = 2, max = "${MOST:-6}" }
scale = { latency = "3s" }
[queues.follows]
handler = "m:f"
scale.down_after = "5s"
[queues.fixed]
handler = "m:f"
workers = 2
"""
    spec = load_text(tmp_path, text)
    follows, fixed = spec.queues["follows"], spec.queues["fixed"]
    assert (follows.workers_min, follows.workers_max, follows.autoscaled) == (2, 6, True)
    assert follows.scale == Scale(latency_ms=3_000, down_after_ms=5_000)
    assert (fixed.workers_min, fixed.workers_max, fixed.autoscaled, fixed.scale) == (2, 2, False, Scale())
