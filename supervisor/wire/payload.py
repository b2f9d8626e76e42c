"""What a payload may be, beyond being JSON: rules for what every reader of it can hold.

Client and keeper both use it, so it needs no msgspec. The rules look at text, never at the decoded value, and
take time in proportion to its length whatever it holds; most payloads pass by a few searches of bytes.
"""

from __future__ import annotations

import json
import re

from supervisor.errors import InvalidPayload

DEPTH_MAX = 100
"""Levels of arrays and objects within each other."""

DIGITS_MAX = 400
"""Digits in a row in one number: no float needs more, and Python refuses to read integers above 4,300."""

TOO_DEEP = f"the payload is nested deeper than {DEPTH_MAX} levels"
TOO_MANY_DIGITS = f"the payload holds a number of more than {DIGITS_MAX} digits"
TOO_LARGE_A_NUMBER = "the payload holds a number beyond 1.8e308, which no float can hold"
HAS_NUL = "the payload holds a NUL character (\\u0000), which neither databases nor commands take"
HAS_SURROGATE = "the payload holds half of a surrogate pair, which is no character"
HAS_NAN = "the payload holds NaN or Infinity, which JSON does not have"
NOT_UTF8 = "the payload is not UTF-8"
HINTS = {
    TOO_DEEP: "send what is within as text, or keep it elsewhere and send where it is",
    TOO_MANY_DIGITS: "send it as text",
    TOO_LARGE_A_NUMBER: "send it as text",
    HAS_NUL: "leave it out; binary data can be sent as base64",
    HAS_SURROGATE: "leave it out; binary data can be sent as base64",
    HAS_NAN: "send null, or a text, in its place",
    NOT_UTF8: "encode it as UTF-8; binary data can be sent as base64",
}
"""What to do about each of these."""

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_SIGN_OF_BRACKET = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))
_DIGIT_OR_BLANK = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x20 for byte in range(256))


class Encoded(str):
    """A payload that is JSON text already, sent byte for byte; made by `parse`, which has read it once."""

    __slots__ = ()


def refused(sentence: str, what: str = "the payload") -> InvalidPayload:
    """The error that says one of the sentences above; `what` it speaks of, as everywhere here, may be no payload."""
    return InvalidPayload(sentence.replace("the payload", what, 1), hint=HINTS.get(sentence))


def encode(value: object, what: str = "the payload") -> str:
    """A payload, or `what` is kept by the same rules, as JSON text: compact, UTF-8 as it is, checked.

    Raises:
        InvalidPayload: it cannot be written as JSON, or breaks a rule of this module.
    """
    if isinstance(value, Encoded):
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except RecursionError:
        raise refused(TOO_DEEP, what) from None
    except (TypeError, ValueError) as error:
        if "integer string conversion" in str(error):
            raise refused(TOO_MANY_DIGITS, what) from None
        if "Out of range float" in str(error):
            raise refused(HAS_NAN, what) from None
        hint = "JSON has objects with texts as keys, arrays, texts, numbers, true, false and null"
        raise InvalidPayload(f"{what} cannot be written as JSON: {error}", hint=hint) from None
    check(_utf8(text, what), what)
    return text


def parse(text: str | bytes, what: str = "the payload") -> Encoded:
    """JSON text from outside (a file, a command line), read once so that it is known to be one whole value.

    Raises:
        InvalidPayload: it is not JSON, or breaks a rule of this module.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            raise refused(NOT_UTF8, what) from None
    raw = _utf8(text, what)

    def refuse_constant(_name: str) -> None:
        raise refused(HAS_NAN, what)

    try:
        json.loads(text, parse_constant=refuse_constant)
    except RecursionError:
        raise refused(TOO_DEEP, what) from None
    except json.JSONDecodeError as error:
        hint = """in a shell, write '{"name": "value"}', or '"text"' for a text alone"""
        raise InvalidPayload(f"{what} is not JSON: {error}", hint=hint) from None
    except ValueError:
        raise refused(TOO_MANY_DIGITS, what) from None
    check(raw, what)
    return Encoded(text)


def check(raw: bytes, what: str = "the payload") -> None:
    """Refuse JSON text (known to be JSON) that some reader of it could not hold.

    Raises:
        InvalidPayload: nested deeper than `DEPTH_MAX`, a number of more than `DIGITS_MAX` digits, or a NUL.
    """
    if too_deep(raw):
        raise refused(TOO_DEEP, what)
    if len(raw) > DIGITS_MAX and _has_long_number(raw):
        raise refused(TOO_MANY_DIGITS, what)
    if b"\\u0000" in raw and _NUL.search(raw):
        raise refused(HAS_NUL, what)


def too_deep(raw: bytes) -> bool:
    """Whether JSON text is nested deeper than all its readers can follow."""
    return raw.count(b"[") + raw.count(b"{") > DEPTH_MAX and _depth(raw) > DEPTH_MAX


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise refused(HAS_SURROGATE, what) from None


def _depth(raw: bytes) -> int:
    from array import array
    from itertools import accumulate

    steps = array("b", _outside_strings(raw).translate(_SIGN_OF_BRACKET, _NO_BRACKETS))
    return max(accumulate(steps), default=0)


def _has_long_number(raw: bytes) -> bool:
    run = b"0" * (DIGITS_MAX + 1)
    return run in raw.translate(_DIGIT_OR_BLANK) and run in _outside_strings(raw).translate(_DIGIT_OR_BLANK)


def _outside_strings(raw: bytes) -> bytes:
    """What of JSON text is not inside a string; escapes go first, so that every quote left opens or ends one."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b" ".join(raw.split(b'"')[::2])
