"""What a job is told beside its payload: a step of its flow, and a job that ran before of what it has kept."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import msgspec

from supervisor.store.protocol import TRAILED, LeasedJob
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import Steps

STEP_MARK = b'"flow":'
"""What the options of every step have in them."""
BRACED = b"{%b}"
MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Feeding(Steps):
    """What goes with a step when it is handed out."""

    def _with_fed(self, jobs: Sequence[LeasedJob]) -> Sequence[LeasedJob]:
        """Jobs to be handed out once more, with what those that are steps are told; any may have kept something."""
        with closing(self._stories([(job.id, job.options, TRAILED) for job in jobs])) as stories:
            return [
                job if story is None else job._replace(payload=job.payload + story, own_bytes=len(job.payload))
                for job, story in zip(jobs, stories, strict=True)
            ]

    @property
    def _tells(self) -> bool:
        """Whether there is any job that is told something beside its payload."""
        return self._cache.has_flows or self._cache.has_checkpoints

    def _stories(self, jobs: Sequence[tuple[int, bytes | None, int]]) -> Generator[bytes | None, None, None]:
        """What each of these jobs is told, as JSON, by their options and marks; None where that is nothing.

        Each is read when it is asked for, as it may be a megabyte: whoever has enough reads no more.
        """
        known = {job_id: story for job_id, _, mark in jobs if (story := self._remembered(job_id, mark)) is not None}
        cache = self._cache
        steps = [job_id for job_id, options, _ in jobs if options is not None and STEP_MARK in options]
        unknown = {job_id for job_id in steps if job_id not in known} if cache.has_flows else set()
        again = {job_id for job_id, _, mark in jobs if mark > 0} if cache.has_checkpoints else set()
        flows = self._texts(SQL.fed, [job_id for job_id, _, _ in jobs if job_id in unknown])
        kept = self._texts(SQL.fed_kept, [job_id for job_id, _, _ in jobs if job_id in again])
        with closing(flows), closing(kept):
            for job_id, _, _ in jobs:
                flow = next(flows) if job_id in unknown else known.get(job_id)
                own = next(kept) if job_id in again else None
                parts = [part for part in (flow, own) if part is not None]
                yield BRACED % b",".join(parts) if parts else None

    def _remembered(self, job_id: int, mark: int) -> bytes | None:
        """A member of a JSON object for a job that is remembered, and that has kept nothing; else None."""
        node = self._cache.graph.get(job_id)
        return None if node is None or (mark > 0 and self._cache.has_checkpoints) else node.story()

    def _all_remembered(self, jobs: Iterable[tuple[int, int]]) -> list[bytes] | None:
        """What all of these jobs are told, by their marks, if each of them is remembered."""
        told: list[bytes] = []
        for job_id, mark in jobs:
            story = self._remembered(job_id, mark)
            if story is None:
                return None
            told.append(BRACED % story)
        return told

    def _texts(self, statement: str, ids: Sequence[int]) -> Generator[bytes | None, None, None]:
        """Members of a JSON object for each of these jobs, None where there are none."""
        if not ids:
            return
        self._write_turned()
        with closing(self._db.execute(statement, (encode(ids).decode(),))) as rows:
            for (found,) in rows:
                yield found

    def _facts_of(self, step: int) -> dict[str, Any]:
        """What a step is told of its flow; values of results and the like are left as they are."""
        (told,) = islice(self._texts(SQL.fed, [step]), 1)
        assert told is not None, "it is a step"
        facts: dict[str, Any] = MEMBERS.decode(MEMBERS.decode(b"{%b}" % told)["flow"])
        return facts | {name: MEMBERS.decode(facts[name]) for name in ("results", "states", "signals")}

    def _write_turned(self) -> None:
        """Rows of flows are written at the end of the transaction, in which those in others may have ended."""
        if self._turned:
            self._write_flows(self._turned.values())
            self._turned.clear()
