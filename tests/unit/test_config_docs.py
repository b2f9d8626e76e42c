"""What is made of the key tables is checked in as it would be made; what ships loads and shows every key."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.config import generate, later, schema
from supervisor.config.check import check
from supervisor.config.keys import Section, default
from supervisor.config.kinds import REFERENCE
from supervisor.config.load import load
from supervisor.config.queue_keys import ARRAYS, DEFAULTS, LIMIT, NAMED, OWN_KEYS, POOL, POOL_KEYS, QUEUE, TOP
from supervisor.config.reference import markdown, toml
from supervisor.config.schedule_keys import SCHEDULE
from supervisor.config.spec import Queue, Rate, Spec
from tests.support.config_files import QUEUE as A_QUEUE
from tests.support.config_files import load_text, problems_of, write
from tests.support.daemon import environment

BACKOFF = ["base", "factor", "max", "jitter", "shape", "delays", "function"]
ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "etc" / "queues.toml"


def key_names(section: Section, prefix: str = "") -> Iterator[str]:
    """All keys of a section, those of tables within it as "table.key"."""
    for name, key in section.keys.items():
        if isinstance(key.kind, Section):
            yield from key_names(key.kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def written_names(table: dict[str, Any], section: Section, prefix: str = "") -> Iterator[str]:
    """All keys of the section that a table sets."""
    for name, value in table.items():
        kind = section.keys[name].kind
        if isinstance(kind, Section):
            yield from written_names(value, kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@pytest.mark.parametrize("name", generate.FILES)
def test_what_is_made_is_what_is_checked_in(tmp_path: Path, name: str) -> None:
    for folder in ("docs", "etc"):
        (tmp_path / folder).mkdir()
    command = [sys.executable, "-m", "supervisor.config.generate", str(tmp_path)]
    subprocess.run(command, check=True, env=environment())
    assert (ROOT / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8")


def test_every_field_of_the_spec_has_a_key() -> None:
    for section in (*TOP.values(), *NAMED.values(), *ARRAYS.values(), QUEUE, SCHEDULE):
        fields = {field.name for field in msgspec.structs.fields(section.type)}
        kept = {key.field for key in section.keys.values()}
        given = (
            {"name", "python_path", "strict"}
            if section.type is Queue
            else {"name"}
            if section in (LIMIT, SCHEDULE)
            else {"name", "access"}
            if section is NAMED["scopes"]
            else set()
        )
        if section is POOL:
            of_jobs = {key.field for name, key in QUEUE.keys.items() if name not in POOL_KEYS}
            assert fields - given - of_jobs == kept
        else:
            own = {QUEUE.keys[name].field for name in OWN_KEYS} if section is DEFAULTS else set()
            of_pools = {"sources"} if section.type is Queue else set()
            assert fields - given - own - of_pools == kept
    assert {*TOP, *NAMED, *ARRAYS, "queues", "schedules", "files", "scope", "warnings", "flow_retention"} - {
        "defaults"
    } == {field.name for field in msgspec.structs.fields(Spec)}


def test_every_default_is_a_value_that_its_key_takes() -> None:
    for section in (*TOP.values(), LIMIT, QUEUE, SCHEDULE):
        for name in key_names(section):
            inner, last = section, name
            if "." in name:
                table, last = name.split(".")
                inner = section.keys[table].kind  # type: ignore[assignment]
            key = inner.keys[last]
            value = default(inner, key)
            if value is msgspec.NODEFAULT:
                continue
            if value is not None or name.startswith("retention"):
                assert key.kind.read(key.kind.show(value), "/") == value  # type: ignore[union-attr]


def test_the_docs_have_a_row_for_every_key() -> None:
    page = markdown()
    for name, section in TOP.items():
        part = page.split(f"### `[{name}]`")[1].split("###")[0] if name != "defaults" else page
        for key in key_names(section):
            assert f"| `{key}` |" in part
    for name, section in NAMED.items():
        part = page.split(f"### `[{name}.NAME]`")[1].split("###")[0]
        for key in key_names(section):
            assert f"| `{key}` |" in part
    assert [key for key in OWN_KEYS if f"| `{key}` |" not in page] == []
    part = page.split("### `[schedules.NAME]`")[1]
    assert [key for key in key_names(SCHEDULE) if f"| `{key}` |" not in part] == []


@pytest.mark.parametrize(
    ("value", "text"), [((), "[]"), (("a", "b"), '["a", "b"]'), ({}, "{}"), ({"A": "b"}, '{A = "b"}'), (2.0, "2.0")]
)
def test_defaults_are_shown_as_toml(value: object, text: str) -> None:
    assert toml(value) == text


class TestSchema:
    def test_it_has_every_key(self) -> None:
        made = schema.schema()
        assert list(made["properties"]) == [*TOP, *NAMED, "queues", "schedules", *ARRAYS]
        for name, section in NAMED.items():
            assert list(made["properties"][name]["additionalProperties"]["properties"]) == list(section.keys)
        assert list(made["properties"]["schedules"]["additionalProperties"]["properties"]) == list(SCHEDULE.keys)
        table = made["properties"]["queues"]["additionalProperties"]
        assert list(table["properties"]) == list(QUEUE.keys)
        assert list(table["properties"]["backoff"]["anyOf"][0]["properties"]) == BACKOFF
        assert table["properties"]["workers"]["default"] == 2

    def test_its_patterns_compile_and_let_references_through(self) -> None:
        for pattern in re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', schema.text()):
            re.compile(json.loads(pattern))
        assert re.search(REFERENCE["pattern"], "a${B}")

    @pytest.mark.parametrize("name", ["a", "a*", "*", "a.b-*", "a" * 63, "a" * 62 + "*"])
    def test_queues_may_have_the_names_that_it_takes(self, tmp_path: Path, name: str) -> None:
        assert re.search(schema.schema()["properties"]["queues"]["propertyNames"]["pattern"], name)
        assert list(load_text(tmp_path, f'[queues."{name}"]\nhandler = "m:f"\n').queues) == [name]

    @pytest.mark.parametrize("name", ["", "A", "a**", "*a", "a*b", "a" * 63 + "*", "-*"])
    def test_queues_may_not_have_other_names(self, tmp_path: Path, name: str) -> None:
        assert not re.search(schema.schema()["properties"]["queues"]["propertyNames"]["pattern"], name)
        (found,) = problems_of(tmp_path, f'[queues."{name}"]\nhandler = "m:f"\n')
        assert "write a name" in found

    def test_its_patterns_take_the_defaults(self) -> None:
        for section in (*TOP.values(), QUEUE):
            for key in section.keys.values():
                kind = key.kind
                if not isinstance(kind, Section) and kind.schema.get("type") == "string" and "pattern" in kind.schema:
                    value = default(section, key)
                    assert value is not None or key.default is not None
                    assert value is None or re.search(kind.schema["pattern"], kind.show(value))


class TestShipped:
    def test_it_loads_without_a_warning(self) -> None:
        spec = load(SHIPPED, environ={})
        assert spec.warnings == ()
        assert spec.queues["checksum"].command == ("sha256sum", "--", "{path}")
        webhook = spec.queues["webhook"]
        assert (webhook.handler, webhook.network) == ("supervisor.handlers.webhook:deliver", True)
        assert webhook.env == {"JOBSUP_WEBHOOK_SECRET_FILE": "/etc/jobsup/webhook.secret"}
        assert (spec.daemon.durability, spec.intake.acknowledge) == ("full", "committed")

    def test_it_has_no_problem_on_a_host_with_coreutils(self) -> None:
        assert check(SHIPPED, environ={"PATH": "/usr/bin:/bin"}).problems == ()

    def test_it_names_its_schema(self) -> None:
        assert SHIPPED.read_text().startswith("#:schema ./queues.schema.json\n")

    def test_its_recipes_load_beside_what_is_there(self, tmp_path: Path) -> None:
        before, block, after = SHIPPED.read_text().split("# --recipes--\n")
        text = "".join(line.removeprefix("#").removeprefix(" ") for line in block.splitlines(keepends=True))
        spec = load(write(tmp_path, before + text + after), environ={})
        assert spec.warnings == ()
        assert set(spec.schedules) == {"nightly"}
        assert spec.queues["reports"].rate == Rate(limit=100, period_ms=60_000, algorithm="window")
        assert spec.queues["accounts"].ordered

    def test_its_commented_block_shows_every_key(self, tmp_path: Path) -> None:
        block = SHIPPED.read_text().split("# --8<--\n")[1]
        text = "".join(line.removeprefix("#").removeprefix(" ") for line in block.splitlines(keepends=True))
        spec = load(write(tmp_path, text), environ={})
        assert set(spec.queues) == {"emails", "thumbnails", "report.*", "index", "search", "renders"}
        assert spec.queues["emails"].limits == tuple(spec.limits)
        assert set(spec.workplaces) == {"emails", "thumbnails", "search", "background"}
        assert set(spec.schedules) == {"digest"}
        data = tomllib.loads(text)
        for name, section in TOP.items():
            if name != "defaults":
                names = [key for key in key_names(section) if key != "scope_of"]  # with it, it is no main file
                assert list(written_names(data[name], section)) == names
        tables = [data["defaults"], *data["queues"].values()]
        shown = {name for table in tables for name in written_names(table, QUEUE)} - {"env"}
        assert shown == set(key_names(QUEUE)) - {"env"}
        assert "env" in data["defaults"]
        (limit,) = data["limits"].values()
        assert list(written_names(limit, LIMIT)) == list(key_names(LIMIT))
        (pool,) = data["pools"].values()
        assert set(POOL.keys) - set(QUEUE.keys) <= set(pool) <= set(POOL.keys)

    def test_its_commented_block_shows_the_default_where_it_says_nothing_else(self, tmp_path: Path) -> None:
        block = SHIPPED.read_text().split("# --8<--\n")[1].split("# [limits.")[0]
        said = [line for line in block.splitlines() if "default:" not in line and "unset:" not in line]
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in said)
        shown = [line for line in text.splitlines() if "=" in line]
        assert len(shown) == 37
        access = "enqueue", "consume", "status", "admin"
        text = "\n".join(line for line in text.splitlines() if not line.startswith(access))
        assert load_text(tmp_path, f"{text}\n{A_QUEUE}") == load_text(tmp_path, A_QUEUE)


class TestLater:
    @pytest.mark.parametrize("name", later.SECTIONS)
    def test_sections_of_later_versions_say_so(self, tmp_path: Path, name: str) -> None:
        (found,) = problems_of(tmp_path, f"[{name}]\nx = 1\n")
        assert found.startswith(f"queues.toml:1: {name}: belongs to a later version of jobsup ({later.SECTIONS[name]})")

    @pytest.mark.parametrize("name", later.QUEUE_KEYS)
    @pytest.mark.parametrize("table", ["queues.q", "defaults"])
    def test_keys_of_later_versions_say_so(self, tmp_path: Path, name: str, table: str) -> None:
        text = f'[queues.q]\nhandler = "m:f"\n{name} = 1\n' if table == "queues.q" else f"[defaults]\n\n{name} = 1\n"
        (found,) = problems_of(tmp_path, text)
        assert found.startswith(f"queues.toml:3: {table}.{name}: belongs to a later version of jobsup (")

    @pytest.mark.parametrize("name", later.DAEMON_KEYS)
    def test_keys_of_the_daemon_too(self, tmp_path: Path, name: str) -> None:
        (found,) = problems_of(tmp_path, f"[daemon]\n{name} = 1\n")
        assert "belongs to a later version" in found

    @pytest.mark.parametrize(
        "line",
        ['order = "deadline"', 'order = "random"'],
    )
    def test_values_of_later_versions_say_so(self, tmp_path: Path, line: str) -> None:
        (found,) = problems_of(tmp_path, A_QUEUE + line + "\n")
        assert "belongs to a later version" in found

    def test_nothing_is_both_of_this_version_and_of_a_later_one(self) -> None:
        assert later.SECTIONS.keys().isdisjoint([*TOP, *NAMED])
        assert later.QUEUE_KEYS.keys().isdisjoint(QUEUE.keys)
        assert later.DAEMON_KEYS.keys().isdisjoint(TOP["daemon"].keys)
