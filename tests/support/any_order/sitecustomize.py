"""Put into the path of a program under test: the events of one wait come in another order than the kernel gave.

The kernel promises none, and gives nearly always the same: what depends on it fails once in a thousand deaths.
"""

from __future__ import annotations

import os
import random
import selectors
from typing import Any

_kept = selectors.EpollSelector.select


def _reordered(selector: Any, timeout: float | None = None) -> list[Any]:
    events = _kept(selector, timeout)
    if os.environ.get("ANY_ORDER") == "shuffled":
        random.shuffle(events)
    else:
        events.reverse()
    return events


selectors.EpollSelector.select = _reordered  # type: ignore[method-assign]
