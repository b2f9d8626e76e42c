"""An application at work, in a process that can be killed: `python -m tests.support.outbox_app FILE SEED JOBS`.

Each transaction inserts some rows, and their numbers into the application's own table; one in four is rolled back. So
that table says what was committed, whoever was killed when. It goes on until its stdin ends, or JOBS are committed.
"""

from __future__ import annotations

import json
import random
import select
import sqlite3
import sys

from tests.support.outbox import Application

ROWS_MAX = 12


def payload(number: int) -> str:
    """What a row says: the number, and nothing to do for a ledgered handler."""
    return json.dumps({"do": "nothing", "number": number})


def main(path: str, seed: str, jobs: int, queue: str = "q", pause_s: float = 0.006) -> None:
    chance = random.Random(seed)
    db = Application(path, make=False).connect()  # type: ignore[arg-type]
    committed = 0
    while committed < jobs and not select.select([sys.stdin], [], [], chance.random() * pause_s)[0]:
        numbers = [chance.getrandbits(52) for _ in range(chance.randint(1, ROWS_MAX))]
        try:
            db.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            continue  # locked for longer than the application waits
        for number in numbers:
            db.execute("INSERT INTO done (id) VALUES (?)", (number,))
            db.execute("INSERT INTO jobsup_outbox (queue, payload) VALUES (?, ?)", (queue, payload(number)))
        if chance.random() < 0.25:
            db.execute("ROLLBACK")
        else:
            db.execute("COMMIT")
            committed += len(numbers)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:5], *map(float, sys.argv[5:]))
