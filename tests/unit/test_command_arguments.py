"""From a payload to the arguments of a command: each member one whole argument, as it is, or refused by name."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from supervisor.config.command import Field, Text
from supervisor.worker.executors.command import ARGUMENT_BYTES_MAX, Unfillable, fill

PRINT = "import json, sys; print(json.dumps(sys.argv[1:]))"
BEFORE = (Text("run"), Field("a"))
BEHIND = (Text("run"), Text("--"), Field("a"))

TAKEN = [
    "", " ", "a b", "a\nb", "\t", "; rm -rf /", "$(id)", "`id`", "$HOME", "*", "?", "~", "&& true", "| cat", "> f",
    "'", '"', "\\", "{a}", "{{", "é", "日本語", "\u202e", "\x1b[2J", "\x01", "\x7f", "\U0001f600",
    "a" * ARGUMENT_BYTES_MAX,
]  # fmt: skip


@pytest.mark.parametrize("text", TAKEN, ids=lambda text: ascii(text)[:20])
def test_a_text_reaches_the_command_as_it_is(text: str) -> None:
    argv = fill(BEFORE, {"a": text})
    assert argv == ["run", text]
    ran = subprocess.run([sys.executable, "-c", PRINT, *argv[1:]], capture_output=True, check=True)
    assert json.loads(ran.stdout) == [text]


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (False, "false"), (0, "0"), (12, "12"), (1.5, "1.5"), (10**400, str(10**400))]
)
def test_numbers_and_truth_are_written_as_json_writes_them(value: object, text: str) -> None:
    assert fill(BEFORE, {"a": value}) == ["run", text]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        ({}, "has no member 'a'"),
        ({"b": 1}, "has no member 'a'"),
        ([], "has no member 'a'"),
        ("a", "has no member 'a'"),
        (None, "has no member 'a'"),
        ({"a": None}, "must be a text, a number or true or false"),
        ({"a": ["x"]}, "must be a text"),
        ({"a": {}}, "must be a text"),
        ({"a": "x\0y"}, "holds a NUL"),
        ({"a": "\0"}, "holds a NUL"),
        ({"a": "x" * (ARGUMENT_BYTES_MAX + 1)}, f"the kernel takes {ARGUMENT_BYTES_MAX}"),
        ({"a": "é" * ARGUMENT_BYTES_MAX}, "the kernel takes"),
        ({"a": "-"}, "begins with '-'"),
        ({"a": "--"}, "begins with '-'"),
        ({"a": "-rf"}, "begins with '-'"),
        ({"a": "--help"}, "begins with '-'"),
        ({"a": -1}, "begins with '-'"),
        ({"a": -1.5}, "begins with '-'"),
    ],
)
def test_what_fills_no_argument_is_refused_naming_the_member(payload: object, sentence: str) -> None:
    with pytest.raises(Unfillable, match=sentence):
        fill(BEFORE, payload)


@pytest.mark.parametrize("value", ["-", "--", "-rf", "--help", -1])
def test_behind_two_dashes_of_the_configuration_a_value_may_begin_with_one(value: object) -> None:
    assert fill(BEHIND, {"a": value}) == ["run", "--", str(value)]


def test_two_dashes_of_a_payload_open_no_way_for_the_next_value() -> None:
    with pytest.raises(Unfillable, match="'a' begins with '-'"):
        fill((Text("run"), Field("a"), Field("b")), {"a": "--", "b": "-rf"})


def test_the_kernel_takes_what_is_taken_here_and_no_more() -> None:
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true", "x" * (ARGUMENT_BYTES_MAX + 1)], check=False)
    subprocess.run(["/bin/true", "x" * ARGUMENT_BYTES_MAX], check=True)
