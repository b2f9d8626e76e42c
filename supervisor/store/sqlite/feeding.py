"""What a step is told of its flow: the results of the steps that it comes after, signals, and what all of it share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from supervisor.store.driver import plain_text
from supervisor.store.protocol import LeasedJob
from supervisor.store.sqlite.base import Base, encode
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import SIGNAL

SKIPPED = "skipped"
STEP_MARK = b'"flow":'
"""What the options of every step have in them."""


class Feeding(Base):
    """What goes with a step when it is handed out."""

    def _with_fed(self, jobs: Sequence[LeasedJob]) -> Sequence[LeasedJob]:
        """Jobs to be handed out once more, with what those that are steps are told."""
        fed = self._fed_to((job.id, job.options) for job in jobs)
        return [
            job._replace(payload=job.payload + fed[job.id], own_bytes=len(job.payload)) if job.id in fed else job
            for job in jobs
        ]

    def _fed_to(self, jobs: Iterable[tuple[int, bytes | None]]) -> dict[int, bytes]:
        """What those of these jobs are told that are steps, by their options."""
        steps = [job_id for job_id, options in jobs if options is not None and STEP_MARK in options]
        return self._fed(steps) if steps else {}

    def _fed(self, steps: Sequence[int]) -> dict[int, bytes]:
        """What these steps are told of their flows, as JSON; jobs that are none are left out."""
        told: dict[int, dict[str, Any]] = {}
        story: dict[str, Any] = {}
        last = 0
        rows = self._db.execute(SQL.fed, (encode(list(steps)).decode(),)).fetchall()
        for child, flow_id, name, step, context, parent, kind, state, skipped, result in rows:
            if child != last:
                last = child
                story = told[child] = {
                    "id": flow_id, "name": plain_text(name), "step": plain_text(step),
                    "context": None if context is None else msgspec.Raw(context),
                    "results": {}, "states": {}, "signals": {},
                }  # fmt: skip
            if parent is None:
                continue
            named = parent.decode()
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
        return {job_id: encode(story) for job_id, story in told.items()}
