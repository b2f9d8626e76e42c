"""What a job is told beside its payload: a step of its flow, and a job that ran before of what it has kept."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import repeat
from typing import Any

import msgspec

from supervisor.store.driver import plain_text
from supervisor.store.protocol import LeasedJob
from supervisor.store.sqlite.base import encode
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import SIGNAL, Steps

SKIPPED = "skipped"
STEP_MARK = b'"flow":'
"""What the options of every step have in them."""


class Feeding(Steps):
    """What goes with a step when it is handed out."""

    def _with_fed(self, jobs: Sequence[LeasedJob]) -> Sequence[LeasedJob]:
        """Jobs to be handed out once more, with what those that are steps are told."""
        fed = self._fed_to([(job.id, job.options, job.mark) for job in jobs])
        return [
            job._replace(payload=job.payload + fed[job.id], own_bytes=len(job.payload)) if job.id in fed else job
            for job in jobs
        ]

    @property
    def _tells(self) -> bool:
        """Whether there is any job that is told something beside its payload."""
        return self._cache.has_flows or self._cache.has_checkpoints

    def _fed_sizes(self, jobs: Sequence[tuple[int, bytes | None, int]]) -> Generator[int, None, None]:
        """How much each of these jobs would be told, in bytes, by their options and marks.

        Each is looked up when it is asked for, as it may be a megabyte: whoever has enough reads no more.
        """
        told = [self._is_told(options, mark) for _, options, mark in jobs]
        if not any(told):
            yield from repeat(0, len(jobs))
            return
        listed = encode([job[0] for job, is_told in zip(jobs, told, strict=True) if is_told]).decode()
        sizes = self._db.execute(SQL.fed_sizes, (listed,))
        try:
            for is_told in told:
                yield sizes.fetchone()[0] if is_told else 0
        finally:
            sizes.close()

    def _is_told(self, options: bytes | None, mark: int) -> bool:
        """Whether a job may be told something beside its payload."""
        cache = self._cache
        step = cache.has_flows and options is not None and STEP_MARK in options
        return step or bool(mark and cache.has_checkpoints)

    def _fed_to(self, jobs: Sequence[tuple[int, bytes | None, int]]) -> dict[int, bytes]:
        """What these jobs are told, as JSON, by their options and marks; those that are told nothing are left out."""
        steps = [job_id for job_id, options, _ in jobs if options is not None and STEP_MARK in options]
        stories = {job_id: {"flow": flow} for job_id, flow in self._fed(steps).items()} if steps else {}
        again = [job_id for job_id, _, mark in jobs if mark] if self._cache.has_checkpoints else []
        for job_id, kept in self._kept(again).items() if again else ():
            stories[job_id] = stories.get(job_id, {}) | kept
        return {job_id: encode(story) for job_id, story in stories.items()}

    def _kept(self, ids: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What earlier runs of these jobs have kept."""
        found: dict[int, dict[str, Any]] = {}
        for job_id, name, value in self._db.execute(SQL.checkpoints, (encode(list(ids)).decode(),)).fetchall():
            kept = found.setdefault(job_id, {"steps": {}, "cursor": None})
            if name:
                kept["steps"][plain_text(name)] = msgspec.Raw(value)
            else:
                kept["cursor"] = msgspec.Raw(value)
        return found

    def _fed(self, steps: Sequence[int]) -> dict[int, dict[str, Any]]:
        """What these steps are told of their flows; jobs that are none are left out."""
        listed = encode(list(steps)).decode()
        told: dict[int, dict[str, Any]] = {
            step_id: {
                "id": flow_id, "name": plain_text(name), "step": plain_text(step),
                "context": None if context is None else msgspec.Raw(context),
                "results": {}, "states": {}, "signals": {},
            }
            for step_id, flow_id, name, step, context in self._db.execute(SQL.fed, (listed,)).fetchall()
        }  # fmt: skip
        rows = self._db.execute(SQL.fed_by, (listed,)).fetchall()
        for child, parent, kind, ended, skipped, result, inside in rows:
            story, named = told[child], parent.decode()
            # The row of a flow is written at the end of the transaction, in which it may have ended.
            state = self._flows[inside].state.encode() if inside in self._flows else ended
            if kind == SIGNAL:
                if result is not None:
                    story["signals"][named] = msgspec.Raw(result)
            elif state == b"completed":
                story["states"][named] = "completed"
                story["results"][named] = None if result is None else msgspec.Raw(result)
            elif skipped:
                story["states"][named] = SKIPPED
                story["results"][named] = None
            else:
                story["states"][named] = plain_text(state) or "unfinished"
        return told
