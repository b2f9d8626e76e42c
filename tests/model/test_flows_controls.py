"""Faults planted in what flows, kept values, code and consumers do, each of which the random program must find."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from supervisor.errors import StoreError
from supervisor.flow.rules import Callback
from supervisor.keeper import consuming, lending, parking, published
from supervisor.keeper.settling import give_back
from supervisor.policy.tasks import Known, meets
from supervisor.store.protocol import HEARD
from supervisor.store.sqlite import flowing, graph, releasing, steps
from supervisor.store.sqlite.base import Base
from supervisor.store.sqlite.feeding import Feeding
from supervisor.store.sqlite.flowing import Flowing
from supervisor.store.sqlite.graph import Graph
from supervisor.store.sqlite.leasing import Leasing
from supervisor.store.sqlite.lending import Lending
from supervisor.store.sqlite.operating import Operating
from supervisor.store.sqlite.planting import Planting
from supervisor.store.sqlite.settling import Settling
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.steps import Steps
from supervisor.worker.executors import tasks
from tests.conformance.sqlite import SqliteBackend
from tests.model.test_flows import a_run, a_spec

RUNS_MAX = 40
Plant = Callable[[pytest.MonkeyPatch], None]


def forget_what_is_left_over(patch: pytest.MonkeyPatch) -> None:
    """What ended in a transaction and was not told is not written down."""
    flush = Base.flush

    def forgetful(self: Any) -> None:
        self._final.clear()
        flush(self)

    patch.setattr(Base, "flush", forgetful)


def call_twice(patch: pytest.MonkeyPatch) -> None:
    """A callback is not noted as made."""
    call = Flowing._call

    def repeated(self: Any, flow: Any, callback: Callback) -> None:
        call(self, flow, callback)
        flow.told &= ~callback

    patch.setattr(Flowing, "_call", repeated)


def revive_before_parents(patch: pytest.MonkeyPatch) -> None:
    """A step that is revived does not wait for what it comes after."""
    patch.setattr(Steps, "_open_edges_into", lambda _self, _job: 0)


def end_early(patch: pytest.MonkeyPatch) -> None:
    """A flow ends one step before its last."""
    done = Flowing._end_if_done

    def early(self: Any, flow: Any) -> None:
        if flow.unfinished == 1 and not flow.open and flow.steps > 3:
            flow.unfinished = 0
        done(self, flow)

    patch.setattr(Flowing, "_end_if_done", early)


def ignore_is_continue(patch: pytest.MonkeyPatch) -> None:
    """A failed step that is ignored lets the next one start at once."""
    free = Flowing._free_children
    patch.setattr(Flowing, "_free_children", lambda self, waits, *told: free(self, dict.fromkeys(waits, -1), *told))


def forget_to_reopen(patch: pytest.MonkeyPatch) -> None:
    """A step that runs again still counts as ended."""
    patch.setattr(Steps, "_reopen", lambda _self, _ids: None)


def keep_around_closed(patch: pytest.MonkeyPatch) -> None:
    """The flow around one that runs again still counts it as ended."""
    patch.setattr(Steps, "_reopen_around", lambda _self, _flow, _ended: None)


def wait_for_signals_again(patch: pytest.MonkeyPatch) -> None:
    """A retry waits for a signal that had come."""
    patch.setattr(SQL, "edges_into", SQL.edges_into.replace("signal.at", "NULL"))


def tell_again_what_runs_again(patch: pytest.MonkeyPatch) -> None:
    """That what comes after a step has been told of it is not written before it runs again."""
    reopen = Steps._reopen

    def unwritten(self: Any, ids: Any) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(Steps, "_write_edges", lambda _self, _parents: None)
            reopen(self, ids)

    patch.setattr(Steps, "_reopen", unwritten)


def tell_all_again_with_late_steps(patch: pytest.MonkeyPatch) -> None:
    """A step behind one that has ended lets that tell all the others once more."""
    put = Planting._put_steps

    def unwritten(self: Any, *args: Any) -> Any:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(Steps, "_write_edges", lambda _self, _parents: None)
            return put(self, *args)

    patch.setattr(Planting, "_put_steps", unwritten)


def tell_all_again_with_what_was_put_off(patch: pytest.MonkeyPatch) -> None:
    """A step that is told later again to some is told to all."""
    patch.setattr(flowing, "RULED_AT_ONCE", 1)
    put_off = Flowing._put_off

    def unwritten(self: Any, *args: Any) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(Steps, "_write_edges", lambda _self, _parents: None)
            put_off(self, *args)

    patch.setattr(Flowing, "_put_off", unwritten)


def take_the_untold_for_told(patch: pytest.MonkeyPatch) -> None:
    """A step that runs again does not wait for ends that are still to be told."""
    completed = "SELECT 1 FROM outcome WHERE outcome.id = parent AND outcome.state = 'completed'"
    patch.setattr(SQL, "edges_left", f"{SQL.edges_left} AND NOT EXISTS ({completed})")


def lose_the_cancelled(patch: pytest.MonkeyPatch) -> None:
    """What is cancelled is not told to what comes after it."""
    withdraw = Operating._withdraw

    def quiet(self: Any, row: Any, *args: Any, **options: Any) -> None:
        withdraw(self, row, *args, **options)
        self._final = [each for each in self._final if each != row.id]

    patch.setattr(Operating, "_withdraw", quiet)


def count_no_failure(patch: pytest.MonkeyPatch) -> None:
    """A flow does not count what failed in it."""
    patch.setattr(steps.FlowRow, "count", lambda *_args, **_options: None)


def run_after_what_stays(patch: pytest.MonkeyPatch) -> None:
    """A retry lets a step run whose parent has failed, and does not run again."""
    patch.setattr(Flowing, "_stays", lambda _self, _parent, _kind: False)


def retry_what_came_later_last(patch: pytest.MonkeyPatch) -> None:
    """What was added to a flow in the flow is retried in the order of ids."""
    again = Flowing._run_again
    patch.setattr(Flowing, "_run_again", lambda self, ids, *args, **how: again(self, sorted(ids), *args, **how))


def let_the_first_stay(patch: pytest.MonkeyPatch) -> None:
    """A retry from a step does not run that, if what it comes after has failed."""
    again = Flowing.retry_jobs
    patch.setattr(Flowing, "retry_jobs", lambda self, ids, first: again(self, ids, first=False))


def count_failures_for_good(patch: pytest.MonkeyPatch) -> None:
    """Whether a failure counts is not looked at again when more steps come after it."""
    patch.setattr(Planting, "_count_anew", lambda _self, _steps: None)


def tell_deaths_to_nobody_around(patch: pytest.MonkeyPatch) -> None:
    """A death in a flow in a flow is one for the inner only."""
    patch.setattr(
        Planting, "_call_at_death", lambda self, flow: flow.told & Callback.DEATH or self._call(flow, Callback.DEATH)
    )


def keep_signals_from_flows_inside(patch: pytest.MonkeyPatch) -> None:
    """A step of a flow in a flow does not hear signals of the whole."""
    signal = Planting._signal

    def own(self: Any, flow_id: int, name: str) -> Any:
        flow = self._flow(flow_id)
        root, flow.root = flow.root, flow_id
        try:
            return signal(self, flow_id, name)
        finally:
            flow.root = root

    patch.setattr(Planting, "_signal", own)


def keep_the_context_from_flows_inside(patch: pytest.MonkeyPatch) -> None:
    """A step of a flow in a flow has no context."""
    patch.setattr(SQL, "fed", SQL.fed.replace("root.context", "flow.context"))


def feed_as_much_as_there_is(patch: pytest.MonkeyPatch) -> None:
    """A step is told all results, however large."""
    patch.setattr(releasing, "FED_BYTES_MAX", 1 << 40)


def leave_flows_inside_alone(patch: pytest.MonkeyPatch) -> None:
    """What is cancelled of a flow is its own jobs only."""
    cancel = Flowing.cancel_steps

    def own_only(self: Any, jobs_max: int) -> list[int]:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(Flowing, "cancel_flow", lambda _self, _flow: None)
            return cancel(self, jobs_max)

    patch.setattr(Flowing, "cancel_steps", own_only)


def let_what_was_cancelled_run_again(patch: pytest.MonkeyPatch) -> None:
    """What runs again of a flow that is being cancelled is not cancelled."""
    patch.setattr(Steps, "_cancel_anew", lambda _self, _flow: None)


def look_at_rows_of_flows(patch: pytest.MonkeyPatch) -> None:
    """What becomes of a flow in the flow is known to steps after it with the next transaction only."""
    patch.setattr(Feeding, "_write_turned", lambda _self: None)


def keep_without_a_lease(patch: pytest.MonkeyPatch) -> None:
    """A value is kept whoever has the lease."""

    def careless(self: Any, _token: int, job_id: int, name: str, value: bytes) -> bool:
        self._db.execute(SQL.checkpoint_put, (job_id, name, self._now_ms, value.decode()))
        return False

    keep = Settling.checkpoint
    patch.setattr(Settling, "checkpoint", lambda self, *args: keep(self, *args) or careless(self, *args))


def keep_after_the_end(patch: pytest.MonkeyPatch) -> None:
    """What a job has kept stays when it completes."""
    patch.setattr(SQL, "checkpoint_drop", "SELECT ?")


def forget_at_a_failure(patch: pytest.MonkeyPatch) -> None:
    """What a run has kept is lost when it fails."""
    again = Settling.reschedule

    def forgetful(self: Any, token: int, job_id: int, *args: Any, **options: Any) -> bool:
        done = again(self, token, job_id, *args, **options)
        if done:
            self._db.execute(SQL.checkpoint_drop, (f"[{job_id}]",))
        return done

    patch.setattr(Settling, "reschedule", forgetful)


def tell_nothing_that_was_kept(patch: pytest.MonkeyPatch) -> None:
    """A later run is not told what was kept."""
    patch.setattr(SQL, "fed_kept", "SELECT NULL FROM json_each(?)")


def read_newer_payloads(patch: pytest.MonkeyPatch) -> None:
    """Code is given payloads that only newer code can read."""

    def brave(table: Any, need: Any) -> bool:
        return need.task in table and need.version >= table[need.task].oldest

    patch.setattr(parking, "meets", brave)
    patch.setattr(tasks, "meets", brave)


def keep_newer_payloads_from_all(patch: pytest.MonkeyPatch) -> None:
    """What waits for newer code does not go on when it comes."""
    patch.setattr(parking, "meets", lambda table, need: need.version < 2 and meets(table, need))


def forget_aliases(patch: pytest.MonkeyPatch) -> None:
    """A task is known by its own name only."""

    def own_names(known: Any) -> dict[str, Known]:
        return {one.name: one for one in known}

    patch.setattr(published, "table_of", own_names)


def skip_an_upgrade(patch: pytest.MonkeyPatch) -> None:
    """An older payload is given to newer code as it is."""
    patch.setattr(tasks.Task, "run", lambda self, job: self.function(job))


def let_loans_last(patch: pytest.MonkeyPatch) -> None:
    """A loan whose time is over can still be acknowledged."""
    patch.setattr(consuming, "end_over", lambda _work: None)


def charge_nobody(patch: pytest.MonkeyPatch) -> None:
    """A loan that runs out is no failure."""

    def kind(work: Any, lease: Any, _loan: Any) -> None:
        give_back(work, lease.token, list(lease.jobs))

    patch.setattr(consuming, "_end", kind)


def lend_twice(patch: pytest.MonkeyPatch) -> None:
    """A job that was lent is there for the next one as well."""
    lend = Lending.lend

    def generous(self: Any, token: int, loan: Any) -> None:
        lend(self, token, loan)
        lease = self._cache.leases[token]
        home = self._cache.queues[lease.queue].home.id
        rows = [(held.lane or home, held.band, held.pos, job_id, held.mark) for job_id, held in lease.jobs.items()]
        self._db.executemany("INSERT OR IGNORE INTO ready (lane, band, pos, id, mark) VALUES (?, ?, ?, ?, ?)", rows)

    patch.setattr(Lending, "lend", generous)


def believe_any_token(patch: pytest.MonkeyPatch) -> None:
    """Whoever has a job is asked, whatever token is named."""
    holding = consuming._holding

    def trusting(work: Any, asked: Any, token: int, job_id: int) -> Any:
        leases = work.tx.open_leases().values()
        return next((each for each in leases if job_id in each.jobs), None) or holding(work, asked, token, job_id)

    patch.setattr(consuming, "_holding", trusting)


def repeat_for_all(patch: pytest.MonkeyPatch) -> None:
    """Whoever acknowledges a completed job is told that it was the one."""

    def of_any(work: Any, asked: Any, request: Any) -> str | None:
        found = work.tx.final_by(request.job)
        before = request if found is None else structs.replace(request, token=found[1])
        return completed(work, asked, before)

    completed = consuming._completed_before
    patch.setattr(consuming, "_completed_before", of_any)


def extend_for_nothing(patch: pytest.MonkeyPatch) -> None:
    """A loan that is held longer is not."""
    lend = Lending.lend
    patch.setattr(
        Lending, "lend", lambda self, token, loan: None if token in self._cache.loans else lend(self, token, loan)
    )


def spare_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Each new keeper spares loans once more."""
    adopted = consuming._adopted
    patch.setattr(consuming, "_adopted", lambda work, loan: adopted(work, loan._replace(prolonged=HEARD)))


def keep_what_nobody_heard_of(patch: pytest.MonkeyPatch) -> None:
    """Jobs whose consumer was gone when it was answered are its own."""
    patch.setattr(lending, "take_back_undelivered", lambda _work: None)


def lend_anew_under_a_key(patch: pytest.MonkeyPatch) -> None:
    """A fetch that is repeated gets other jobs."""
    patch.setattr(Lending, "loan_by_key", lambda _self, _key: None)


def lend_steps_without_their_flow(patch: pytest.MonkeyPatch) -> None:
    """A job is handed out without what it is told."""
    patch.setattr(Leasing, "_stories", lambda _self, jobs: (None for _ in jobs))


def remember_what_runs_again(patch: pytest.MonkeyPatch) -> None:
    """A step is told that another one completed which waits again."""
    patch.setattr(Graph, "clear", lambda _self: None)


def remember_what_was_changed(patch: pytest.MonkeyPatch) -> None:
    """A step that somebody had a look at is taken for what it was before."""
    places = Base._places

    def sure(self: Any, ids: Any) -> Any:
        nodes = dict(self._cache.graph._nodes)
        found = places(self, ids)
        self._cache.graph._nodes.update(nodes)
        return found

    patch.setattr(Base, "_places", sure)


def remember_only_what_completed(patch: pytest.MonkeyPatch) -> None:
    """A step is not told of those before it that must be looked up."""
    patch.setattr(Graph, "unsure", lambda _self, _step: None)


def remember_any_result(patch: pytest.MonkeyPatch) -> None:
    """A step whose parents have large results is released whatever it is fed."""
    patch.setattr(graph, "RESULT_MAX", 10_000_000)
    patch.setattr(graph, "HEARD_BYTES_MAX", 10_000_000)


FLOWS: list[Plant] = [
    forget_what_is_left_over, call_twice, revive_before_parents, end_early, ignore_is_continue, forget_to_reopen,
    keep_around_closed, wait_for_signals_again, tell_again_what_runs_again, tell_all_again_with_late_steps,
    take_the_untold_for_told, tell_all_again_with_what_was_put_off,
    lose_the_cancelled, count_no_failure, run_after_what_stays,
    let_the_first_stay, look_at_rows_of_flows, let_what_was_cancelled_run_again, count_failures_for_good,
    tell_deaths_to_nobody_around, keep_signals_from_flows_inside, keep_the_context_from_flows_inside,
    leave_flows_inside_alone, feed_as_much_as_there_is, retry_what_came_later_last,
]  # fmt: skip
REMEMBERED: list[Plant] = [
    remember_what_runs_again, remember_what_was_changed, remember_only_what_completed, remember_any_result,
]  # fmt: skip
KEPT: list[Plant] = [keep_without_a_lease, keep_after_the_end, forget_at_a_failure, tell_nothing_that_was_kept]
CODE: list[Plant] = [read_newer_payloads, keep_newer_payloads_from_all, forget_aliases, skip_an_upgrade]
LENT: list[Plant] = [
    let_loans_last, charge_nobody, lend_twice, believe_any_token, repeat_for_all, extend_for_nothing, spare_for_ever,
    keep_what_nobody_heard_of, lend_anew_under_a_key, lend_steps_without_their_flow,
]  # fmt: skip
FAVOURED: list[tuple[list[Plant], dict[str, float]]] = [
    (FLOWS, {"cancel_flow": 2}),
    (REMEMBERED, {}),
    (KEPT, {"keep": 20, "stale": 5}),
    (CODE, {"publish": 6, "work_tasks": 20, "work_side": 20}),
    (LENT, {"fetch": 20, "say": 20, "say_late": 5, "die": 3, "time": 10}),
]
"""What is looked for, by what the program does more often meanwhile: so it is found at once."""


@pytest.mark.parametrize(
    ("plant", "favoured"),
    [pytest.param(plant, kinds, id=plant.__name__) for plants, kinds in FAVOURED for plant in plants],
)
def test_a_planted_fault_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Plant, favoured: dict[str, float]
) -> None:
    empty, spec = tmp_path / "empty.db", a_spec(tmp_path)
    SqliteBackend(empty, durability="relaxed").open().close()
    plant(monkeypatch)
    for number in range(RUNS_MAX):
        path = tmp_path / "run.db"
        try:
            a_run(SqliteBackend(path, template=empty, durability="relaxed"), f"control {number}", spec, **favoured)
        except (AssertionError, StoreError):
            return
        for file in tmp_path.glob("run.db*"):
            file.unlink()
    pytest.fail(f"not found in {RUNS_MAX} runs: {plant.__doc__}")
