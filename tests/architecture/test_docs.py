"""Whatever users can type, set, get or send is documented: the docs are compared with the program."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import click
import pytest
import tomli_w

import supervisor
from supervisor import errors
from supervisor.cli import failure
from supervisor.cli.jobsctl import jobsctl
from supervisor.cli.jobsupd import command as jobsupd
from supervisor.cli.reference import markdown
from supervisor.config.keys import Section
from supervisor.config.load import load
from supervisor.config.queue_keys import QUEUE, TOP
from supervisor.errors import JobsupError, every_error
from supervisor.policy import alerts, backoff, counting, discipline, rank, rate, schedule, unique
from supervisor.policy.reason import SENTENCES

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")


def text_of(name: str) -> str:
    return (DOCS / name).read_text()


def all_modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(supervisor.__path__, "supervisor."):
        if not module.name.endswith("__main__"):
            yield module.name


def commands(group: click.Group, prefix: str = "jobsctl") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


COMMANDS = list(commands(jobsctl))


def options(command: click.Command) -> list[str]:
    return [name for parameter in command.params if isinstance(parameter, click.Option) for name in parameter.opts]


def test_the_command_reference_is_what_the_commands_say() -> None:
    assert text_of("cli.md") == markdown(), "run: python -m supervisor.cli.reference > docs/cli.md"


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_every_command_and_option_is_documented(path: str, command: click.Command) -> None:
    page = text_of("cli.md")
    assert f"### {path}\n" in page
    for option in options(command):
        assert option in page, f"{path} {option}"


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[path for path, _ in COMMANDS])
def test_every_command_has_help_with_examples(path: str, command: click.Command) -> None:
    assert (command.help or "").strip(), path
    examples = (command.epilog or "").split("Examples:\n")[1].splitlines()
    assert examples
    assert all("jobsctl" in example for example in examples), "an example shows the command"
    assert any(re.search(rf"\b{path.rsplit(maxsplit=1)[-1]}\b", example) for example in examples)


def test_every_option_of_the_daemon_is_documented() -> None:
    page = text_of("cli.md").split("## jobsctl")[0]
    for option in options(jobsupd):
        assert option in page, f"jobsupd {option}"


def key_names(section: Section) -> Iterator[str]:
    for name, key in section.keys.items():
        yield name
        if isinstance(key.kind, Section):
            yield from (f"{name}.{inner}" for inner in key_names(key.kind))


@pytest.mark.parametrize(
    ("heading", "section"),
    [*((f"### `[{name}]`", section) for name, section in TOP.items() if name != "defaults"),
     ("### `[queues.NAME]` and `[defaults]`", QUEUE)],
    ids=lambda value: value if isinstance(value, str) else "keys",
)  # fmt: skip
def test_every_key_of_the_configuration_is_documented(heading: str, section: Section) -> None:
    page = text_of("config.md")
    part = page.split(heading)[1].split("\n### ")[0]
    for name in key_names(section):
        assert f"| `{name}` |" in part, f"{heading} {name}"


def documented_errors() -> dict[str, tuple[str, int]]:
    """Code to class and status, as docs/errors.md says."""
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| .+ \| .+ \|$", text_of("errors.md"), flags=re.MULTILINE)
    return {code: (name, int(status)) for code, name, status in rows}


def test_every_error_code_is_documented_with_its_class_and_status() -> None:
    for module in all_modules():
        importlib.import_module(module)
    ours = [error for error in every_error() if error.__module__.startswith("supervisor.")]
    assert documented_errors() == {error.code: (error.__name__, failure.status_of(_instance(error))) for error in ours}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in every_error() if error.__module__.startswith("supervisor.")]
    assert len(codes) == len(set(codes))


def test_every_error_says_what_to_do() -> None:
    ours = [error for error in every_error() if error.__module__.startswith("supervisor.")]
    assert [error.__name__ for error in ours if "remedy" not in vars(error)] == []
    assert len({error.remedy for error in ours}) == len(ours)
    assert [error.__name__ for error in ours if _instance(error).hint != error.remedy] == []
    assert errors.Busy("later", hint="better known").hint == "better known"


def _instance(error: type[JobsupError]) -> JobsupError:
    return error("a message")


def test_every_exit_status_is_documented() -> None:
    page = text_of("cli.md")
    of_jobsctl, of_jobsupd = page.split("exit status of `jobsctl`")[1].split("exit status of `jobsupd`")
    statuses = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    for status in statuses | {failure.EXIT_INTERRUPTED, failure.EXIT_BROKEN_PIPE, 0}:
        assert f"\n| {status} |" in of_jobsctl + of_jobsupd, status
    for status in {failure.status_of(_instance(error)) for error in every_error()}:
        assert f"\n| {status} |" in of_jobsctl, status
    for status in (0, 1, 2, 74, 75, 78):
        assert f"\n| {status} |" in of_jobsupd, status


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_is_documented(signal: str) -> None:
    assert signal in text_of("signals.md")


def test_every_finding_of_doctor_is_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([a-z, ]+) \| .+ \|$", text_of("doctor.md"), flags=re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(findings())
    assert all(set(severity.split(", ")) <= {"problem", "warning", "note"} for _, severity in rows)


def findings() -> set[str]:
    """The names of all findings, from the source of the checks."""
    names = set()
    for path in (ROOT / "supervisor/cli/checkup").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MAKERS:
                name = node.args[0]
                assert isinstance(name, ast.Constant), f"{path}:{node.lineno}: the name of a finding is a literal"
                names.add(str(name.value))
    return names


MAKERS = {"problem", "warning", "note", "make"}


def test_every_environment_variable_is_documented() -> None:
    used = set()
    for path in (ROOT / "supervisor").rglob("*.py"):
        used |= set(re.findall(r"\bJOBSUP_[A-Z_]*[A-Z]\b", path.read_text()))
    pages = "".join(page.read_text() for page in [*DOCS.rglob("*.md"), ROOT / "README.md"] if page.exists())
    assert sorted(name for name in used if name not in pages) == []


LINKED_TEST = re.compile(r"\[`(test_\w+)`\]\[(\w+)\]")
LINKED_PLACE = re.compile(r"\]\((\.\./tests/[\w/]+\.py)\)")
PAGES = sorted(DOCS.glob("*.md"))


def defined_in(path: Path) -> set[str]:
    """The names of the tests that a file defines."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_linked_test_is_there(page: Path) -> None:
    text = page.read_text()
    files = dict(re.findall(r"^\[(\w+)\]: (\.\./tests/[\w/]+\.py)$", text, flags=re.MULTILINE))
    missing = [place for place in (*files.values(), *LINKED_PLACE.findall(text)) if not (DOCS / place).is_file()]
    assert missing == []
    known = {name: defined_in(DOCS / place) for name, place in files.items()}
    assert [(test, file) for test, file in LINKED_TEST.findall(text) if test not in known.get(file, ())] == []
    assert sorted(files) == sorted({file for _, file in LINKED_TEST.findall(text)}), "what is named is linked to"


def test_the_comparison_shows_a_test_for_whatever_it_claims() -> None:
    """Each row of its tables of features has a test behind it, or says that it is for later."""
    text = text_of("comparison.md")
    part = text.split("## Of five other systems")[1].split("## Speed")[0]
    rows = [line for line in part.splitlines() if line.startswith("| ") and "---" not in line]
    rows = [row for row in rows if not row.endswith("| shown by |")]
    assert len(rows) > 150
    assert [row for row in rows if not LINKED_TEST.search(row) and not re.search(r"\| later \|", row)] == []
    assert [row for row in rows if LINKED_TEST.search(row) and re.search(r"\| later \|", row)] == []


def test_every_page_is_listed_once() -> None:
    listed = re.findall(r"\]\(([\w-]+\.md)\)", text_of("README.md"))
    assert sorted(listed) == [page.name for page in PAGES if page.name != "README.md"]


def test_every_reason_why_a_job_waits_is_documented() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .+ \|.*\|$", text_of("explain.md"), flags=re.MULTILINE)
    assert sorted(rows) == sorted(SENTENCES)


def blocks(*languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of all pages: the page, and what stands in the block."""
    found = []
    for page in PAGES:
        for block in re.finditer(r"^```(\w*)\n(.*?)^```\n", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            if block[1] in languages:
                found.append((page.name, block[2]))
    return found


def completed(block: str) -> str:
    """The block as a file that could be loaded: with whatever it speaks of and leaves to the reader."""
    data = tomllib.loads(block)
    queues = data.setdefault("queues", {})
    named = [schedule.get("queue") for schedule in data.get("schedules", {}).values()]
    named += [target for queue in queues.values() for target in (queue.get("on_dead"), queue.get("on_failure"))]
    named += [data.get("alerts", {}).get("queue") or "any"]
    queues |= {name: {} for name in named if name and name not in queues}
    drawn = {source for pool in data.get("pools", {}).values() for source in pool["sources"]}
    for name, queue in queues.items():
        if name not in drawn and not {"handler", "command", "pull"} & set(queue):
            queue["handler"] = "app:run"
    return tomli_w.dumps(data)


FEATURES = (
    "alerts", "autoscaling", "batches", "dynamic-queues", "explain", "history", "keys", "limits", "order", "pull",
    "results", "retries", "schedules", "scopes", "statistics", "unique",
)  # fmt: skip


@pytest.mark.parametrize("language", ["toml", "python"])
def test_every_page_of_a_feature_shows_it_in_a_configuration_and_in_python(language: str) -> None:
    shown = {page for page, _ in blocks(language)}
    assert [name for name in FEATURES if f"{name}.md" not in shown] == []


@pytest.mark.parametrize(("page", "block"), blocks("toml"), ids=str)
def test_every_example_of_a_configuration_loads(tmp_path: Path, page: str, block: str) -> None:
    main = tmp_path / "queues.toml"
    main.write_text(completed(block))
    for name, scope in tomllib.loads(block).get("scopes", {}).items():
        place = tmp_path / scope["config"]
        place.parent.mkdir(parents=True)
        place.write_text('[daemon]\nscope_of = "../queues.toml"\n' + completed(f"[queues.{name}]"))
    if "scope_of" in block:
        place = tmp_path / "scope" / "queues.toml"
        place.parent.mkdir()
        main.rename(place)
        main.write_text(completed('[queues.any]\n[scopes.scope]\nconfig = "scope/queues.toml"'))
    assert load(main, environ={}).warnings == ()


@pytest.mark.parametrize(("page", "block"), blocks("python"), ids=str)
def test_every_example_in_python_can_be_read_and_imports_what_there_is(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("supervisor."):
            module = importlib.import_module(node.module or "")
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def shown_commands() -> Iterator[tuple[str, list[str]]]:
    """Each `jobsctl ...` of all examples, as its words."""
    for page, block in blocks("sh", "console"):
        for line in block.splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
            lexer.whitespace_split = True
            words = list(lexer) if "jobsctl" in line else []
            while "jobsctl" in [word.rsplit("/", 1)[-1] for word in words]:
                begin = next(at for at, word in enumerate(words) if word.rsplit("/", 1)[-1] == "jobsctl")
                end = next((at for at, word in enumerate(words) if at > begin and set(word) <= set("|&;<>()")), None)
                if words[begin + 1 : end] and not words[begin + 1].startswith("/"):
                    yield page, words[begin + 1 : end]
                words = [] if end is None else words[end:]


@pytest.mark.parametrize(("page", "words"), list(shown_commands()), ids=str)
def test_every_command_that_is_shown_exists_with_its_options(page: str, words: list[str]) -> None:
    if words[:1] in (["-c"], ["--config"]):
        words = words[2:]
    known = dict(COMMANDS)
    path = next(path for path in (f"jobsctl {' '.join(words[:size])}" for size in (3, 2, 1)) if path in known)
    given = {word.partition("=")[0] for word in words if re.match(r"--\w|-[a-z]$", word)}
    assert given <= set(options(known[path]))


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("order.md", rank.ORDERS), ("keys.md", discipline.AFTER_DEAD), ("limits.md", rate.ALGORITHMS),
        ("limits.md", discipline.WHEN_FULL), ("unique.md", unique.ON_CONFLICT), ("unique.md", unique.REPLACEABLE),
        ("alerts.md", alerts.KINDS), ("statistics.md", counting.COUNTS), ("retries.md", backoff.SHAPES),
        ("schedules.md", get_args(schedule.Missed)), ("schedules.md", get_args(schedule.Overlap)),
    ],
    ids=str,
)  # fmt: skip
def test_every_word_that_a_key_takes_is_on_its_page(page: str, words: Sequence[str]) -> None:
    text = text_of(page)
    assert [word for word in words if not re.search(rf'[`"]{word}[`"]', text)] == []


def test_every_campaign_and_every_model_is_documented() -> None:
    page = text_of("campaigns.md")
    files = [*(ROOT / "tests/crash").glob("test_*.py"), *(ROOT / "tests/model").glob("test_*.py")]
    assert len(files) > 25
    assert sorted(path.name for path in files if f"`{path.name}`" not in page and f"/{path.name}`" not in page) == []
