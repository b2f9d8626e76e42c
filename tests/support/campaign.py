"""How much a campaign does: a short form by default, the full one with JOBSUP_CAMPAIGN=full, which adds up.

With JOBSUP_CAMPAIGN_LOG=FILE every batch that passed is a line of it, and a campaign that is started again goes on
where it was: what is left of the full form, no more. JOBSUP_CAMPAIGN_SEED chooses other moments.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FULL = os.environ.get("JOBSUP_CAMPAIGN") == "full"
SEED = int(os.environ.get("JOBSUP_CAMPAIGN_SEED", "0"))
SUMMARY: dict[str, Counter[str]] = {}
"""What every campaign of this session did, for the report at its end."""


class Campaign:
    """The rounds of one campaign."""

    def __init__(self, name: str) -> None:
        self.name = name
        named = os.environ.get("JOBSUP_CAMPAIGN_LOG")
        self._log = Path(named) if named else None
        self.chance = random.Random(f"{name} {SEED} {self._before()}")

    def batches(self, *, short: int, full: int, batch: int) -> Iterator[int]:
        """How many rounds to do next, until all are done. A batch that fails is not written down."""
        left = max(0, full - self._before()) if FULL else short
        while left > 0:
            rounds = min(batch, left)
            yield rounds
            left -= rounds

    def passed(self, rounds: int, **figures: int) -> None:
        """Note a batch that was found in order."""
        SUMMARY.setdefault(self.name, Counter()).update({"rounds": rounds, **figures})
        if self._log and FULL:
            line = json.dumps({"campaign": self.name, "rounds": rounds, "seed": SEED, **figures})
            with self._log.open("a") as file:
                file.write(line + "\n")

    def _before(self) -> int:
        if self._log is None or not FULL or not self._log.exists():
            return 0
        lines = (json.loads(line) for line in self._log.read_text().splitlines())
        return sum(line["rounds"] for line in lines if line["campaign"] == self.name)


def size(short: int, full: int) -> int:
    """One number of a campaign that has no rounds."""
    return full if FULL else short
