"""The ledgered handler behind an import of two seconds, as large applications have it."""

from __future__ import annotations

import time

from ledgered import run

time.sleep(2)  # the import itself

__all__ = ["run"]
