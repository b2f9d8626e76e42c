"""The brace syntax of commands."""

from __future__ import annotations

import pytest

from supervisor.config.command import Argument, Field, Text, parse_argument, parse_command


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("plain", Text("plain")),
        ("", Text("")),
        ("{path}", Field("path")),
        ("{user_id-2}", Field("user_id-2")),
        ("{{path}}", Text("{path}")),
        ("{{", Text("{")),
        ("}}", Text("}")),
        ("a{{b}}c", Text("a{b}c")),
        ("{{{{", Text("{{")),
        ("--json={{}}", Text("--json={}")),
    ],
)
def test_a_brace_is_a_field_alone_and_doubled_a_brace(written: str, meant: Argument) -> None:
    assert parse_argument(written) == meant


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("--size={size}", "a field fills a whole argument"),
        ("{a}{b}", "a field fills a whole argument"),
        ("{a} ", "a field fills a whole argument"),
        ("{", "write {{ for a brace"),
        ("}", "write {{ for a brace"),
        ("{}", "write {{ for a brace"),
        ("{0}", "write {{ for a brace"),
        ("{a.b}", "write {{ for a brace"),
        ("{a!r}", "write {{ for a brace"),
        ("{{a}", "a field fills a whole argument"),
        ("{{{a}}", "a field fills a whole argument"),
        ("{" + "a" * 65 + "}", "write {{ for a brace"),
        ("{a\n}", "write {{ for a brace"),
        ("{a}\n", "a field fills a whole argument"),
    ],
)
def test_other_braces_are_refused(written: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_argument(written)


def test_a_command_is_a_program_and_its_arguments() -> None:
    assert parse_command(("convert", "--", "{path}")) == (Text("convert"), Text("--"), Field("path"))


@pytest.mark.parametrize("command", [(), ("{program}",), ("",)])
def test_the_program_never_comes_from_the_payload(command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="the program to run is fixed"):
        parse_command(command)
