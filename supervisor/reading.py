"""JSON from outside, read in a time that is in proportion to its length, whatever it holds."""

from __future__ import annotations

from math import isinf

import msgspec


def _number(text: str) -> float:
    """A number that is no integer. msgspec's own way with those like 1e300 takes a hundred times as long as others."""
    value = float(text)
    if isinf(value):
        raise ValueError("Number out of range")  # as msgspec calls it
    return value


read = msgspec.json.Decoder(float_hook=_number).decode
"""The value that is written there; raises what `msgspec.json.decode` raises."""


def is_utf8(data: bytes) -> bool:
    """Whether it is text at all: versions of msgspec differ in the error that says so."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
