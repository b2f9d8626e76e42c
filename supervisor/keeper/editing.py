"""Changing what a job is while it does not run: checked as a new job would be, done in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from supervisor.errors import InvalidPayload, JobsupError, WrongState
from supervisor.job import TAGS_MAX
from supervisor.job import State as JobState
from supervisor.keeper.children import known_queue, new_job
from supervisor.keeper.fitting import fitted, runs_tasks
from supervisor.keeper.operations import Refuse, Reply
from supervisor.keeper.state import State
from supervisor.keeper.strangers import unknown_job
from supervisor.policy.tasks import Need, need_of
from supervisor.store.history import Edit
from supervisor.store.protocol import Facts, NewJob
from supervisor.store.sqlite.transaction import Transaction
from supervisor.wire import messages


class Change:
    """Edit one job."""

    until_ms: int | None = None

    def __init__(self, state: State, request: messages.Edit, reply: Reply, refuse: Refuse) -> None:
        self.state = state
        self.request = request
        self.reply = reply
        self.refuse = refuse

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:
        """Check it against the queue that the job is in, or goes to, and do it; refused, nothing is changed."""
        job_id = self.request.job
        try:
            standing = tx.standing([job_id]).get(job_id)
            if standing is None:
                raise unknown_job(tx, job_id, instead="show")
            self._check_state(standing.state)
            facts = tx.facts([job_id])[job_id]
            change = self._checked(tx, facts, now_ms)
        except JobsupError as error:
            refusal = error
            return lambda: self.refuse(refusal) is None
        target = self.request.queue
        if target is not None and target != facts.queue:
            task = change.need.task if change.need else None
            tx.move(facts.queue, target, [job_id], payload=change.payload, task=task)
        if target is not None or change.need is not None:
            self.state.tasks.look_again()
        then = tx.edit(job_id, change)

        def effect() -> bool:
            self.state.wants_lease = True
            self.reply({"id": job_id, "queue": target or facts.queue, "state": then.value})
            return True

        return effect

    def _check_state(self, state: JobState) -> None:
        job_id, timed = self.request.job, self._due_asked()
        if state is JobState.RUNNING:
            raise WrongState(f"job {job_id} is running: its worker has it as it was", hint="cancel it, or wait")
        if timed and state.final:
            raise WrongState(f"job {job_id} is {state}: it has no time to run at", hint="jobsctl retry runs it again")
        if timed and state is JobState.BLOCKED:
            raise WrongState(f"job {job_id} is blocked: it runs when what it waits for is done")

    def _due_asked(self) -> bool:
        return self.request.delay_ms is not None or self.request.due_at_ms is not None

    def _checked(self, tx: Transaction, facts: Facts, now_ms: int) -> Edit:
        """The change as it is stored.

        Raises:
            UnknownQueue, InvalidPayload, PayloadTooLarge, NotUnique: as for a new job.
        """
        request = self.request
        queue = known_queue(self.state.spec, request.queue or facts.queue)
        own: dict[str, Any] = msgspec.json.decode(facts.options) if facts.options else {}
        payload = self._payload(tx)
        priority = facts.priority if request.priority is None else request.priority
        wanted = messages.NewJob(
            msgspec.Raw(payload), priority=self._priority_to_check(priority, queue.order),
            delay_ms=request.delay_ms, due_at_ms=request.due_at_ms,
            timeout_ms=request.timeout_ms or own.get("timeout_ms"),
            max_attempts=request.max_attempts or own.get("max_attempts"), tags=self._tags(own),
        )  # fmt: skip
        need = self._need(own, facts.queue if request.queue is None else request.queue, wanted)
        job: NewJob = new_job(queue, wanted, now_ms, request.queue or facts.queue)
        options = _joined(own if need is None else _needing(own, need), job.options)
        given = payload if request.payload is not msgspec.UNSET else None
        moves = request.queue if request.queue != facts.queue else None
        competes = (given or moves or need) and not tx.standing([request.job])[request.job].state.final
        if (
            competes
            and (rival := tx.rival(request.job, queue=moves, payload=given, task=need and need.task)) is not None
        ):
            raise tx.not_unique(rival, request.queue or facts.queue)
        return Edit(given, priority, options, job.due_at_ms, need)

    def _need(self, own: dict[str, Any], queue: str, wanted: messages.NewJob) -> Need | None:
        """What the job needs from now on, if it is given another task or version.

        Raises:
            InvalidPayload: the queue has no tasks; or the job's task would not take the payload.
        """
        request = self.request
        renewed = request.task is not None or request.version is not None
        if not renewed and (request.payload is msgspec.UNSET or "task" not in own or not runs_tasks(self.state, queue)):
            return None
        version = own.get("version") if request.task in (None, own.get("task")) else None
        asked = msgspec.structs.replace(
            wanted, task=request.task or own.get("task"), version=request.version or version
        )
        (job,) = fitted(self.state, queue, [asked])
        return need_of(job.task, job.version) if renewed else None

    def _payload(self, tx: Transaction) -> bytes:
        """The new payload, or the old one where another queue or task may not take it."""
        request = self.request
        if isinstance(request.payload, msgspec.Raw):
            return bytes(request.payload)
        if (request.queue, request.task, request.version) == (None, None, None):
            return b"null"
        return tx.payload_of(self.request.job) or b"null"

    def _priority_to_check(self, priority: int, order: Sequence[str]) -> int:
        """A priority that a job has is no mistake until its queue, or the number, is changed."""
        changed = self.request.priority is not None or self.request.queue is not None
        return priority if changed or "priority" in order else 0

    def _tags(self, own: dict[str, Any]) -> tuple[str, ...]:
        kept = [tag for tag in own.get("tags", ()) if tag not in self.request.untag]
        tags = tuple(dict.fromkeys([*kept, *self.request.tags]))
        if len(tags) > TAGS_MAX:
            raise InvalidPayload(f"the job would have {len(tags)} tags; at most {TAGS_MAX} are kept")
        return tags


def _needing(own: dict[str, Any], need: Need) -> dict[str, Any]:
    """Options that name this task, and this version if it is one."""
    named = {name: value for name, value in own.items() if name != "version"} | {"task": need.task}
    return named | {"version": need.version} if need.version else named


def _joined(own: dict[str, Any], checked: bytes | None) -> bytes | None:
    """The job's options: those that an edit can change as they were checked, all others as they were."""
    others = {name: value for name, value in own.items() if name not in ("timeout_ms", "max_attempts", "tags")}
    joined = others | (msgspec.json.decode(checked) if checked else {})
    return msgspec.json.encode(joined) if joined else None
