"""`[[outbox]]`: what its tables mean, and what is refused with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config import codec
from supervisor.config.check import check
from supervisor.config.diff import diff
from supervisor.config.load import load
from supervisor.config.outboxes import name_of
from supervisor.config.spec import Outbox, Spec
from supervisor.errors import ConfigError

QUEUE = '[queues.q]\nhandler = "m:f"\n'


def spec_of(folder: Path, toml: str, *settings: str) -> Spec:
    file = folder / "queues.toml"
    file.write_text(QUEUE + toml)
    return load(file, settings, environ={"APP": "/srv/app"})


def problems(folder: Path, toml: str, *settings: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as found:
        spec_of(folder, toml, *settings)
    return found.value.problems


def test_outboxes_are_named_after_their_files_and_have_defaults(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path,
        '[[outbox]]\ndatabase = "${APP}/Shop App.db"\n'
        '[[outbox]]\nname = "other"\ndatabase = "x.db"\nqueues = ["q"]\ninterval = "5s"\n',
    )
    assert spec.outbox == {
        "shop_app": Outbox(name="shop_app", database="/srv/app/Shop App.db"),
        "other": Outbox(name="other", database=str(tmp_path / "x.db"), queues=("q",), interval_ms=5_000),
    }
    assert codec.decode(codec.encode(spec)) == spec


@pytest.mark.parametrize(
    ("written", "line", "text"),
    [
        ('[[outbox]]\nname = "a"\n', 3, "has no file"),
        ('[outbox]\ndatabase = "a.db"\n', 3, "is no array of tables; write [[outbox]]"),
        ('[[outbox]]\ndatabase = "a.db"\ntable = "jobs"\n', 5, "outbox.1.table: unknown key"),
        ('[[outbox]]\ndatabase = "a.db"\ninterval = "1ms"\n', 5, "out of range"),
        ('[[outbox]]\ndatabase = "a.db"\n[[outbox]]\ndatabase = "b/a.db"\n', 5, "name of another outbox"),
        ('[[outbox]]\ndatabase = "a.db"\n[[outbox]]\nname = "b"\ndatabase = "./a.db"\n', 7, "that of outbox a"),
        ('[[outbox]]\ndatabase = "../var/jobs.db"\n', 4, "jobsup's own database"),
        ('[[outbox]]\ndatabase = "a.db"\nqueues = ["No"]\n', 5, "element 1"),
    ],
)
def test_what_an_outbox_cannot_be_is_refused_in_its_line(tmp_path: Path, written: str, line: int, text: str) -> None:
    (problem,) = problems(tmp_path, written)
    assert problem.startswith(f"{tmp_path}/queues.toml:{line}: outbox")
    assert text in problem


@pytest.mark.parametrize("written", ["", '[[outbox]]\ndatabase = "a.db"\n[[outbox]]\ndatabase = "b.db"\n'])
def test_the_command_line_sets_them_as_a_whole(tmp_path: Path, written: str) -> None:
    assert spec_of(tmp_path, written, "outbox=[]").outbox == {}
    spec = spec_of(tmp_path, written, 'outbox=[{ database = "c.db", queues = ["q"] }]')
    assert spec.outbox == {"c": Outbox(name="c", database=str(tmp_path / "c.db"), queues=("q",))}
    assert problems(tmp_path, written, "daemon.run_dir=run", 'outbox=[{ database = "c.db", table = "t" }]') == (
        "--set:2: outbox.1.table: unknown key; did you mean database?",
    )
    assert problems(tmp_path, written, "outbox=none")[0].startswith("--set:1: outbox: is no array of tables")


def test_a_check_advises_where_a_file_is_not_there_yet(tmp_path: Path) -> None:
    file = tmp_path / "queues.toml"
    outboxes = '[[outbox]]\ndatabase = "queues.toml"\n[[outbox]]\ndatabase = "no.db"\n'
    file.write_text('[queues.q]\ncommand = ["true"]\n' + outboxes)
    checked = check(file, environ={"PATH": "/bin:/usr/bin"})
    assert checked.problems == ()
    (advice,) = [text for text in checked.advice if "outbox" in text]
    assert advice.startswith(f'{file}:6: outbox.2.database: "{tmp_path}/no.db" does not exist on this host')


def test_more_than_sixteen_are_refused(tmp_path: Path) -> None:
    tables = "".join(f'[[outbox]]\ndatabase = "{number}.db"\n' for number in range(17))
    assert "write at most 16" in problems(tmp_path, tables)[0]


def test_names_are_made_of_the_letters_that_names_have() -> None:
    assert [name_of(each) for each in ("/a/App.db", "/a/.hidden", "/a/Ünder score.sqlite3", "/a/---")] == [
        "app", "hidden", "nder_score", "outbox",
    ]  # fmt: skip


def test_a_reload_tells_which_outboxes_differ(tmp_path: Path) -> None:
    before = spec_of(tmp_path, '[[outbox]]\ndatabase = "a.db"\n[[outbox]]\ndatabase = "b.db"\n')
    after = spec_of(tmp_path, '[[outbox]]\ndatabase = "b.db"\nqueues = ["q"]\n[[outbox]]\ndatabase = "c.db"\n')
    assert set(diff(before, after).settings) == {"outbox.a", "outbox.b", "outbox.c"}
