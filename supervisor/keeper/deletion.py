"""Deleting jobs by what they are, in steps that each fit into a pass."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.errors import UsageError
from supervisor.job import FINAL
from supervisor.job import State as JobState
from supervisor.keeper.operations import STEP_JOBS, Refuse, Reply, Sweep
from supervisor.keeper.state import State
from supervisor.store.history import Search
from supervisor.store.sqlite.transaction import Transaction
from supervisor.wire import messages


class Delete(Sweep):
    """Delete the jobs that a filter means; those that have not ended only if their state is named."""

    def __init__(self, state: State, request: messages.Delete, reply: Reply, refuse: Refuse) -> None:
        super().__init__(state, reply, refuse)
        if request.state is JobState.RUNNING:
            raise UsageError("running jobs cannot be deleted", hint="cancel them first")
        self.queue = request.queue
        self.states = FINAL if request.state is None else {request.state}
        self.ended = request.state if request.state in FINAL else None
        self.search = Search(
            since_ms=request.after_ms, until_ms=request.before_ms, finished=request.by == "finished",
            tag=request.tag, text=request.text, error_type=request.type, key=request.key,
            task=request.task,
        )  # fmt: skip
        self.ids = frozenset(request.ids or ())

    def page(self, tx: Transaction) -> list[int]:
        """The next jobs of the queue, or of all of them; of those that are named, all in one go."""
        if self.ids:
            return sorted(job_id for job_id in self.ids if job_id > self.after_id)[:STEP_JOBS]
        if self.search.key is not None:
            found = tx.ids_of_key(self.search.key, self.queue, self.after_id, STEP_JOBS, self.ended)
            if found is not None:
                return found
        if self.queue is not None:
            return tx.ids_of(self.queue, self.after_id, STEP_JOBS)
        if self.states == {JobState.DEAD}:
            return [job.id for job in tx.dead_after(self.after_id, STEP_JOBS)]
        return tx.ids_after(self.after_id, STEP_JOBS)

    def _hidden(self, queue: str) -> Sequence[str]:
        return self.state.queue(queue).redact

    def act(self, tx: Transaction, ids: list[int]) -> int:
        """Delete those that are meant."""
        meant = [
            standing
            for standing in tx.standing(tx.meant(ids, self.search, self._hidden)).values()
            if standing.state in self.states and self.queue in (None, standing.queue)
        ]
        for standing in meant:
            if not standing.state.final:
                tx.cancel(standing.id)
        return tx.remove([standing.id for standing in meant])
