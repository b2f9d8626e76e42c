"""Idempotency keys: which job of a queue was the first to come with each. A row goes when its job goes.

Unlike what makes jobs unique, a key says nothing about what a job is or how it stands: it is the caller's word that
this is the same request, and the answer is the same job for as long as there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from supervisor.store.protocol import NewJob
from supervisor.store.sqlite.base import Base, encode
from supervisor.store.sqlite.cache import QueueRow
from supervisor.store.sqlite.statements import SQL


class Idempotency(Base):
    """What insertion asks about keys, and what deletion does to them."""

    def _firsts(self, queue: QueueRow, jobs: Iterable[NewJob]) -> dict[str, int]:
        """The stored jobs that came first with the keys of these, by key."""
        if not self._cache.has_idempotent:
            return {}
        wanted = encode(sorted({job.idempotency_key for job in jobs if job.idempotency_key is not None})).decode()
        return {key.decode(): job_id for key, job_id in self._db.execute(SQL.idempotent_get, (queue.id, wanted))}

    def _keep_firsts(self, queue: QueueRow, firsts: Mapping[str, int]) -> None:
        """From now on these keys mean these jobs."""
        if firsts:
            self._cache.has_idempotent = True
            self._db.executemany(SQL.idempotent_put, [(queue.id, key, job_id) for key, job_id in firsts.items()])

    def _forget_keys(self, ids: Sequence[int]) -> None:
        """Jobs are deleted: whoever comes with their keys is the first again."""
        if self._cache.has_idempotent:
            self._db.execute(SQL.idempotent_drop, (encode(ids).decode(),))


def first_with_keys(jobs: Sequence[NewJob], known: Mapping[str, int]) -> list[int]:
    """Places of the jobs that go in: those without a key, and the first with each that is not known."""
    seen, places = set(known), list[int]()
    for place, job in enumerate(jobs):
        if job.idempotency_key is None or job.idempotency_key not in seen:
            places.append(place)
        if job.idempotency_key is not None:
            seen.add(job.idempotency_key)
    return places
