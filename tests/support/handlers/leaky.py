"""The ledgered handler of an application whose import leaves a file open."""

from __future__ import annotations

from ledgered import run

LEFT_OPEN = open("/etc/hostname", "rb")  # noqa: SIM115 - that is the point

__all__ = ["run"]
