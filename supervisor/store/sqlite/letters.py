"""Dead letters by error: each dead job has a row with its error's fingerprint, each error a count that is kept.

*Invariant:* a job has a letter exactly if it is dead (those that died before there were letters get theirs by
`gather_letters`), and a group's count is the number of its letters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.policy.fingerprint import MESSAGE_MAX, fingerprint
from supervisor.store.protocol import AttemptError
from supervisor.store.sqlite.base import Base, encode, text
from supervisor.store.sqlite.statements import SQL


class Letters(Base):
    """The verbs of dead letters."""

    def _put_letter(
        self, job_id: int, queue: str, died_at_ms: int, error: AttemptError | None, reason: str | None
    ) -> None:
        found = error or AttemptError("reason", reason or "")
        detail = _decoded(found.detail)
        mark = fingerprint(found.kind, found.message, detail)
        kind = detail.get("type")
        named = kind if isinstance(kind, str) else None if found.kind == "reason" else found.kind
        self._db.execute(SQL.letter_put, (job_id, queue, mark, died_at_ms))
        row = (queue, mark, 1, named, found.message[:MESSAGE_MAX], died_at_ms, died_at_ms)
        self._db.execute(SQL.letter_group_add, row)

    def _drop_letters(self, ids: Sequence[int]) -> None:
        rows = self._db.execute(SQL.letter_drop, (encode(ids).decode(),)).fetchall()
        for (queue, mark), jobs in Counter(map(tuple, rows)).items():
            self._take_letters(queue.decode(), mark.decode(), jobs)

    def _take_letters(self, queue: str, mark: str, jobs: int) -> None:
        (left,) = self._db.execute(SQL.letter_group_take, (queue, mark, jobs)).fetchone()
        if not left:
            self._db.execute(SQL.letter_group_drop, (queue, mark))

    def _move_letter(self, job_id: int, new: str) -> None:
        row = self._db.execute(SQL.letter_get, (job_id,)).fetchone()
        if row is None:
            return
        queue, mark, died_at, kind, message = row
        self._db.execute(SQL.letter_move, (job_id, new))
        self._db.execute(SQL.letter_group_add, (new, mark.decode(), 1, text(kind), message.decode(), died_at, died_at))
        self._take_letters(queue.decode(), mark.decode(), 1)

    def letters_after(self, mark: str, queue: str | None, job_id: int, jobs_max: int) -> list[int]:
        """Dead jobs with this fingerprint, of one queue or of all, in the order of their ids."""
        return [row[0] for row in self._db.execute(SQL.letters_after, (mark, job_id, queue, jobs_max))]

    def fingerprint_of(self, job_id: int) -> str | None:
        """The fingerprint of a dead job's error; None if it is not dead."""
        row = self._db.execute(SQL.letter_get, (job_id,)).fetchone()
        return None if row is None else str(row[1].decode())

    def gather_letters(self, jobs_max: int) -> bool:
        """Give jobs that died under an earlier version their letters; whether there may be more of them."""
        below = self.meta("letters_below")
        if not below:
            return False
        rows = self._db.execute(SQL.letterless, (below, jobs_max)).fetchall()
        for job_id, queue, died_at, reason, has_one, last in rows:
            if has_one:
                continue
            row = self._db.execute(SQL.attempt_get, (job_id, last)).fetchone() if last is not None else None
            error = AttemptError(row[0].decode(), row[1].decode(), row[2]) if row else None
            self._put_letter(job_id, queue.decode(), died_at, error, text(reason))
        below = rows[-1][0] if len(rows) == jobs_max else 0
        self._db.execute(SQL.sequences_set, ("letters_below", below))
        return bool(below)

    def meta(self, name: str) -> int:
        """A stored number; 0 where there is none of that name."""
        row = self._db.execute(SQL.meta_get, (name,)).fetchone()
        return int(row[0]) if row else 0


def _decoded(detail: bytes | None) -> dict[str, Any]:
    found = msgspec.json.decode(detail) if detail else None
    return found if isinstance(found, dict) else {}
