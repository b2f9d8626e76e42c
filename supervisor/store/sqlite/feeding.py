"""What a step is told of its flow: the results of the steps that it comes after, signals, and what all of it share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from supervisor.flow.rules import failed
from supervisor.job import FINAL, State
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
        """Jobs to be handed out, with what those that are steps are told."""
        if not self._cache.has_flows:
            return jobs
        return [self._with_story(job) if job.options is not None and STEP_MARK in job.options else job for job in jobs]

    def _with_story(self, job: LeasedJob) -> LeasedJob:
        fed = self._fed(job.id)
        return job if fed is None else job._replace(payload=job.payload + fed, own_bytes=len(job.payload))

    def _facts_of(self, job_id: int) -> dict[str, Any]:
        """What a condition may look at."""
        fed = self._fed(job_id)
        return {} if fed is None else msgspec.json.decode(fed)

    def _fed(self, job_id: int) -> bytes | None:
        """What a step is told of its flow, as JSON; None for a job that is no step."""
        row = self._db.execute(SQL.fed_flow, (job_id,)).fetchone()
        if row is None:
            return None
        flow_id, name, step, context = row
        results: dict[str, Any] = {}
        states: dict[str, str] = {}
        signals: dict[str, Any] = {}
        for parent, kind, state, skipped, result, at, payload in self._db.execute(
            SQL.fed_parents, (job_id,)
        ).fetchall():
            named = plain_text(parent)
            if kind == SIGNAL:
                if at is not None:
                    signals[named] = msgspec.Raw(payload)
                continue
            states[named] = SKIPPED if skipped else plain_text(state) or "unfinished"
            if state is not None and not failed(_state(state), skipped=bool(skipped)):
                results[named] = None if result is None else msgspec.Raw(result)
        return encode(
            {
                "id": flow_id, "name": plain_text(name), "step": plain_text(step),
                "context": None if context is None else msgspec.Raw(context),
                "results": results, "states": states, "signals": signals,
            }
        )  # fmt: skip


def _state(value: Any) -> State:
    """A final state as a row has it, of a job or of a flow; one that goes on again counts as not completed."""
    named = plain_text(value)
    return State(named) if named in FINAL else State.CANCELLED
