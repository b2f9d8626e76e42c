"""One sanitiser for terminal, log and HTML: what a reader's display would obey is shown to the reader instead.

Control characters (C0, DEL, C1), bidirectional controls, line separators and lone surrogates become the text
`\\xNN` or `\\uNNNN`. Everything else passes through, so text in any script stays readable.

The result is for eyes: it is not reversible, and it is no HTML escaping (templates do that as well).
"""

from __future__ import annotations

import re

_OBEYED = (
    "\x00-\x08\x0b-\x1f"  # C0 but tab and newline
    "\x7f-\x9f"  # DEL and C1: 0x9b alone begins an escape sequence on 8-bit terminals
    "\u061c\u200e\u200f"  # bidirectional marks
    "\u2028\u2029"  # line and paragraph separator: they end a line for some readers of logs
    "\u202a-\u202e\u2066-\u2069"  # bidirectional embeddings, overrides and isolates
    "\ud800-\udfff"  # in a Python string a surrogate is always a lone one, and cannot be encoded
)
_IN_LINES = re.compile(f"[{_OBEYED}]")
_IN_A_LINE = re.compile(f"[\t\n{_OBEYED}]")


def sanitise(text: str, *, multiline: bool = False) -> str:
    """Text that is safe to print: it moves no cursor, ends no line, and reads in the order it is stored.

    With `multiline`, newlines and tabs are kept, for text that has lines of its own, such as a traceback.
    """
    if text.isprintable():
        return text
    return (_IN_LINES if multiline else _IN_A_LINE).sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
