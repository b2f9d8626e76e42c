"""The version, as a constant: asking importlib.metadata costs a command 40 ms."""

from __future__ import annotations

VERSION = "0.1.0"
PROTOCOL = 1
