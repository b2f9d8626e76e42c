"""Whatever is written, loading ends with a spec or with problems that have a line, a key and a sentence."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.config import codec
from supervisor.config.keys import Section
from supervisor.config.load import load
from supervisor.config.queue_keys import QUEUE, TOP
from supervisor.errors import ConfigError
from tests.support.config_files import write

LINE = re.compile(r"(?:/.+|--set):[1-9][0-9]*: .+: .+|[1-9][0-9]* more problems are not listed")

texts = st.text(st.characters(blacklist_categories=("Cs",)), max_size=12) | st.sampled_from(
    [
        "5s",
        "1h30m",
        "1MiB",
        "auto",
        "never",
        "fifo",
        "m:f",
        "m",
        "*",
        "{a}",
        "{",
        "${A}",
        "${A:-7}",
        "${",
        "\x1b[2J\u202e",
    ]
)
scalars = texts | st.booleans() | st.integers() | st.floats() | st.just(2**70) | st.just(datetime.date(2020, 2, 2))
values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(texts, below, max_size=3), max_leaves=6
)


def tables(section: Section) -> st.SearchStrategy[dict[str, Any]]:
    """Tables of a section: known keys and others, with values of any kind."""
    known = {
        name: tables(key.kind) | values if isinstance(key.kind, Section) else values
        for name, key in section.keys.items()
    }
    return st.fixed_dictionaries({}, optional=known) | st.dictionaries(texts, values, max_size=3)


queues = st.dictionaries(st.sampled_from(["a", "b.c", "B", "t_*"]) | texts, tables(QUEUE) | values, max_size=3)
sections = {name: tables(section) | values for name, section in TOP.items()}
files = st.fixed_dictionaries({}, optional={**sections, "queues": queues | values, "web": values})
set_values = st.tuples(
    st.sampled_from(["defaults.workers", "queues.a.env.X", "daemon", "a", "log.level.x", '"']), texts
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(data=files, given=st.lists(set_values, max_size=2), main=st.booleans())
def test_any_data_is_a_spec_or_problems(tmp_path: Path, data: dict[str, Any], given: Any, main: bool) -> None:
    path = write(tmp_path, tomli_w.dumps(data) if main else "[defaults]\n")
    write(tmp_path, "" if main else tomli_w.dumps(data), "queues.d/x.toml")
    try:
        spec = load(path, [f"{key}={value}" for key, value in given], {"A": "5"})
    except ConfigError as error:
        assert all(LINE.fullmatch(problem) and problem.isprintable() for problem in error.problems)
    else:
        assert codec.decode(codec.encode(spec)) == spec


@settings(max_examples=300, suppress_health_check=list(HealthCheck), deadline=None)
@given(text=st.text(alphabet="[]{}=.,\"'#\\ \nqa1-_$", max_size=80) | st.text(max_size=60) | st.binary(max_size=60))
def test_any_text_is_a_spec_or_problems(tmp_path: Path, text: str | bytes) -> None:
    written = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    try:
        load(write(tmp_path, written), environ={})
    except ConfigError as error:
        assert all(LINE.fullmatch(problem) and problem.isprintable() for problem in error.problems)
