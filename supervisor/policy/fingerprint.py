"""The fingerprint of an error: the same for failures with one cause, whatever job, time or release they come from.

Made of the exception's class, its message without what differs from job to job, and the innermost frames of the
handler: file and function, never a line number. Frames of the interpreter and of installed packages do not count
unless there are no others, for what failed in them was called from the handler.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from itertools import groupby
from typing import Any, NamedTuple

MESSAGE_MAX = 1_000
"""Characters of a message that count; what is behind them is mostly data."""

TRACEBACK_MAX = 16 * 1024
"""Characters of a traceback that are looked at, from the end that has the innermost frames."""

FRAMES = 3
"""Frames that count. Of a recursion, which is as deep as its data, one."""

BEGIN, BEGIN_LAST_FIRST = "Traceback (most recent call last)", "(most recent call first)"
_FRAME = re.compile(r'^[ \t|+-]*File "([^"\n]*)", line \d+,? in ([^\n]+)$', re.MULTILINE)
_HASH, _DIGITS = re.compile(r"\b[0-9a-f]{7,40}\b"), re.compile(r"[0-9]+")
_FOREIGN = ("/site-packages/", "/dist-packages/", "/lib/python", "/supervisor/worker/", "/supervisor/pool/")

_RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), mark)
    for pattern, mark in (
        (r"\b[a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^\s'\"<>]+", "<url>"),
        (r"[\w.+-]{1,64}@[\w.-]{1,255}", "<address>"),
        (r'(?<!\w)"[^"\n]*"(?!\w)', "<text>"),
        (r"(?<!\w)'[^'\n]*'(?!\w)", "<text>"),
        (r"`[^`\n]*`", "<text>"),
        (r"(?<![\w/])(?:~|\.{1,2})?(?:/[^\s/'\":,;()<>]+)+/?", "<path>"),
        (r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "<hex>"),
        (r"\b0[xX][0-9a-fA-F]+\b", "<hex>"),
        (r"\b(?=[a-fA-F]*[0-9])(?=[0-9]*[a-fA-F])[0-9a-fA-F]{6,}\b", "<hex>"),
        (r"[-+]?[0-9][0-9.,:_]*", "<n>"),
        (r"\s+", " "),
    )
)
"""In this order: an address is no path, and a number within a text is part of it. Each is linear in its input."""


class Frame(NamedTuple):
    """A place in code, as it survives a release: the file with its folder, and the function."""

    file: str
    function: str


def fingerprint(kind: str, message: str, detail: Mapping[str, Any]) -> str:
    """16 hexadecimal digits for an attempt's error, as the store keeps it: kind, message and detail.

    `detail` may have `type`, `traceback`, `signal` and `exit_code`; what is not of the type that it should be counts
    as absent, since it comes from a process that ran user code.
    """
    named = [str(detail[name]) for name in ("type", "signal", "exit_code") if isinstance(detail.get(name), (str, int))]
    traceback = detail.get("traceback")
    frames = handler_frames(traceback) if isinstance(traceback, str) else []
    parts = [kind, *named, normalised(message), *(f"{frame.file}:{frame.function}" for frame in frames)]
    return hashlib.blake2b("\n".join(parts).encode(errors="replace"), digest_size=8).hexdigest()


def normalised(message: str) -> str:
    """A message without numbers, hexadecimal, quoted text, paths, links and addresses: what jobs differ in."""
    text = message[:MESSAGE_MAX]
    for pattern, mark in _RULES:
        text = pattern.sub(mark, text)
    return text.strip()


def handler_frames(traceback: str) -> list[Frame]:
    """The innermost frames of the handler, the innermost last; of a chain of exceptions, those of the last one."""
    first = BEGIN_LAST_FIRST in traceback
    part = traceback[:TRACEBACK_MAX] if first else traceback[-TRACEBACK_MAX:].rpartition(BEGIN)[2]
    found: list[tuple[str, str]] = _FRAME.findall(part)
    if first:
        found.reverse()
    own = [frame for frame in found if not _is_foreign(frame[0])]
    chosen = [frame for frame, _ in groupby(own or found)][-FRAMES:]
    return [Frame(_short(path), function.strip()) for path, function in chosen]


def _is_foreign(path: str) -> bool:
    return path.startswith("<") or any(mark in path for mark in _FOREIGN)


def _short(path: str) -> str:
    """A file with its folder, without digits: a release's folder has another name than the one before."""
    return _DIGITS.sub("N", _HASH.sub("N", "/".join(path.split("/")[-2:])))
