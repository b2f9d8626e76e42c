"""What a display would obey is shown; what people write passes."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.observe.sanitise import sanitise

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ANY_TEXT = st.text(st.characters(codec=None, categories=None))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b2J", "\\x9b2J"),
        ("\x1b]8;;http://evil\x07click\x1b]8;;\x07", "\\x1b]8;;http://evil\\x07click\\x1b]8;;\\x07"),
        ("a\rb", "a\\x0db"),
        ("a\x00b", "a\\x00b"),
        ("\x7f", "\\x7f"),
        ("invoice\u202efdp.exe", "invoice\\u202efdp.exe"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u2028b", "a\\u2028b"),
        ("\ud83d", "\\ud83d"),
        ("line\nbreak\tand tab", "line\\x0abreak\\x09and tab"),
    ],
)
def test_what_a_display_would_obey_is_shown(text: str, expected: str) -> None:
    assert expected == sanitise(text)


@pytest.mark.parametrize("text", ["grüße", "日本語", "שלום", "مرحبا", "👩‍💻", "[link=http://x]y[/link]", "a\u00a0b"])
def test_what_people_write_passes_unchanged(text: str) -> None:
    assert text == sanitise(text)


def test_a_text_of_several_lines_keeps_them_when_asked() -> None:
    assert sanitise("a\n\tb\x1b[1m\r\n", multiline=True) == "a\n\tb\\x1b[1m\\x0d\n"


def test_every_code_point_is_shown_exactly_if_it_is_a_control_a_bidi_control_a_separator_or_a_surrogate() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        obeyed = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDI
        assert obeyed == (sanitise(character) != character), hex(code)


@given(ANY_TEXT)
def test_one_text_is_one_encodable_line(text: str) -> None:
    shown = sanitise(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()


@given(ANY_TEXT)
def test_the_result_needs_no_second_pass(text: str) -> None:
    assert sanitise(text) == sanitise(sanitise(text))
    assert sanitise(text, multiline=True) == sanitise(sanitise(text, multiline=True), multiline=True)
