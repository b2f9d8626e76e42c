"""What every store must do about flows. A backend's tests inherit this as well."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from supervisor.errors import QueueFull, UnknownFlow, WrongState
from supervisor.flow.plan import FLOW_SIGNALS_MAX
from supervisor.flow.rules import FlowState, Policy
from supervisor.job import State
from supervisor.policy.discipline import Discipline
from supervisor.policy.unique import Unique, fingerprint
from supervisor.store.protocol import Completion, FlowEnd, Group, NewFlow, NewJob, NewStep, Store
from tests.conformance.suite import NOW, asked, bury, complete, counts, ids_of, lease, leased, put, states
from tests.support.disciplines import by_name

CANCEL, IGNORE, CONTINUE = Policy.CANCEL, Policy.IGNORE, Policy.CONTINUE
BLOCKED, QUEUED, RUNNING = State.BLOCKED, State.QUEUED, State.RUNNING
COMPLETED, DEAD, CANCELLED = State.COMPLETED, State.DEAD, State.CANCELLED
PLENTY = 10_000


def a_step(name: str | None = None, *parents: int | str, policy: Policy = CANCEL, **more: Any) -> NewStep:
    """A step of a flow. `parents` are places among the steps, or names of those that are there."""
    return NewStep("fifo", NewJob(b"1"), name=name, parents=[(each, policy) for each in parents], **more)


def nested(*parents: int, name: str | None = None, flow: int = -1, callbacks: bytes | None = None) -> NewStep:
    return NewStep(None, None, flow, name, [(each, CANCEL) for each in parents], callbacks=callbacks)


def start(store: Store, *steps: NewStep, **more: Any) -> list[int]:
    """Insert a flow; its id, and then those of its steps."""
    with store.transaction(NOW) as tx:
        (answer,) = tx.insert([NewFlow(steps, **more)])
        if answer.refused is not None:
            raise answer.refused
        return list(answer.ids)


def go_on(store: Store, now: int = NOW) -> list[FlowEnd]:
    with store.transaction(now) as tx:
        return tx.progress_flows(PLENTY)


def run(store: Store, *ids: int, results: Sequence[bytes] = ()) -> None:
    """Lease and complete these jobs, which must be the next ones of the queue."""
    token = leased(store, jobs=len(ids))
    assert ids_of(token) == list(ids)
    complete(store, token.token, *ids)
    go_on(store)


def die(store: Store, job_id: int, state: State = DEAD) -> None:
    token = leased(store, jobs=1)
    assert ids_of(token) == [job_id]
    assert bury(store, token.token, job_id, state)
    go_on(store)


def retry(store: Store, flow: int, at_once: int = 100) -> int:
    """Run what failed again, so many steps at once; how many."""
    steps, walk = 0, [(flow, 0)]
    while walk:
        more, walk = asked(store, lambda tx: tx.retry_steps(walk, at_once))  # noqa: B023
        steps += more
    return steps


def retry_from(store: Store, flow: int, step: str) -> int:
    with store.transaction(NOW) as tx:
        return tx.retry_jobs(tx.steps_from(flow, step, 100), first=True)


def state_of(store: Store, flow: int) -> FlowState:
    found: FlowState = asked(store, lambda tx: tx.flow(flow)).state
    return found


def calls(**queues: str) -> bytes:
    """Callbacks into queues, by the name of each."""
    return json.dumps({name: {"queue": queue, "payload": name} for name, queue in queues.items()}).encode()


def fed(store: Store, jobs: int = 1) -> list[dict[str, Any]]:
    return [json.loads(job.payload[job.own_bytes :])["flow"] for job in leased(store, jobs=jobs).jobs]


class FlowVerbs:
    """The verbs of flows."""

    def test_a_chain_runs_in_its_order(self, one: Store, two: Store) -> None:
        flow, a, b, c = start(one, a_step("a"), a_step("b", 0), a_step("c", 1))
        assert states(two, a, b, c) == [QUEUED, BLOCKED, BLOCKED]
        run(one, a)
        assert states(two, a, b, c) == [COMPLETED, QUEUED, BLOCKED]
        run(two, b)
        run(one, c)
        assert state_of(two, flow) is FlowState.COMPLETED
        assert lease(one) is None

    def test_a_step_waits_for_all_that_it_comes_after(self, one: Store) -> None:
        _, a, b, c = start(one, a_step("a"), a_step("b"), a_step("c", 0, 1))
        run(one, a)
        assert states(one, c) == [BLOCKED]
        run(one, b)
        assert states(one, c) == [QUEUED]

    def test_what_is_left_over_is_told_by_whoever_comes_next(self, one: Store, two: Store) -> None:
        _, a, *rest = start(one, a_step("a"), *[a_step(None, 0) for _ in range(600)])
        token = leased(one).token
        complete(one, token, a)
        assert counts(two) == {"completed": 1, "blocked": 600}
        asked(two, lambda tx: tx.progress_flows(1))
        assert counts(one)["blocked"] < 600
        assert counts(one)["blocked"] > 0
        go_on(one)
        assert counts(two) == {"completed": 1, "queued": 600}
        assert len(rest) == 600

    def test_a_failed_step_takes_those_along_that_come_after_it(self, one: Store) -> None:
        flow, a, b, c, d = start(one, a_step("a"), a_step("b", 0), a_step("c", 1), a_step("d"))
        die(one, a)
        assert states(one, a, b, c, d) == [DEAD, CANCELLED, CANCELLED, QUEUED]
        assert state_of(one, flow) is FlowState.RUNNING
        run(one, d)
        assert state_of(one, flow) is FlowState.DEAD

    def test_a_failed_step_is_ignored_where_that_is_asked_for(self, one: Store) -> None:
        flow, a, b, c = start(one, a_step("a"), a_step("b"), a_step("c", 0, 1, policy=IGNORE))
        die(one, a)
        assert states(one, c) == [BLOCKED]
        run(one, b)
        run(one, c)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_step_continues_at_once_where_that_is_asked_for(self, one: Store) -> None:
        flow, a, b, c = start(one, a_step("a"), a_step("b"), a_step("c", 0, 1, policy=CONTINUE))
        die(one, a)
        assert states(one, b, c) == [QUEUED, QUEUED]
        run(one, b, c)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_cancelled_step_is_a_failed_one(self, one: Store) -> None:
        flow, a, b = start(one, a_step("a"), a_step("b", 0))
        asked(one, lambda tx: tx.cancel(a))
        ends = go_on(one)
        assert states(one, a, b) == [CANCELLED, CANCELLED]
        assert ends == [FlowEnd(flow, None, FlowState.CANCELLED)]

    def test_a_flow_in_a_flow_is_a_step(self, one: Store) -> None:
        flow, a, inner, x, y, b = start(
            one, a_step("a"), nested(0, name="inner"), a_step("x", 0, flow=1), a_step("y", 2, flow=1), a_step("b", 1)
        )
        run(one, a)
        run(one, x)
        assert states(one, b) == [BLOCKED]
        run(one, y)
        assert state_of(one, inner) is FlowState.COMPLETED
        run(one, b)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_each_callback_is_a_job_once(self, one: Store) -> None:
        callbacks = calls(on_success="lifo", on_complete="lifo", on_death="prio")
        flow, a, b = start(one, a_step("a"), a_step("b"), name="f", callbacks=callbacks)
        die(one, a)
        assert counts(one, "prio") == {"queued": 1}
        run(one, b)
        assert counts(one, "lifo") == {"queued": 1}
        retry(one, flow)
        assert state_of(one, flow) is FlowState.RUNNING
        run(one, a)
        assert state_of(one, flow) is FlowState.COMPLETED
        assert counts(one, "lifo") == {"queued": 2}
        told = [json.loads(job.payload) for job in leased(one, "lifo").jobs]
        assert sorted(each["payload"] for each in told) == ["on_complete", "on_success"]
        assert told[0]["flow"]["id"] == flow

    def test_an_empty_batch_ends_at_once_and_an_open_one_when_it_is_closed(self, one: Store) -> None:
        (flow,) = start(one, callbacks=calls(on_success="lifo"))
        assert state_of(one, flow) is FlowState.COMPLETED
        assert counts(one, "lifo") == {"queued": 1}
        (batch,) = start(one, callbacks=calls(on_success="lifo"), open=True)
        _, a = start(one, a_step(), into=batch)
        run(one, a)
        assert state_of(one, batch) is FlowState.RUNNING
        asked(one, lambda tx: tx.close_flow(batch))
        assert state_of(one, batch) is FlowState.COMPLETED

    def test_a_nested_flows_callback_belongs_to_the_flow_around_it(self, one: Store) -> None:
        flow, _, x = start(one, nested(callbacks=calls(on_success="lifo")), a_step("x", flow=0))
        run(one, x)
        assert state_of(one, flow) is FlowState.RUNNING
        token = leased(one, "lifo")
        complete(one, token.token, *ids_of(token))
        assert go_on(one)[-1].id == flow

    def test_steps_are_told_the_results_of_those_before_them(self, one: Store) -> None:
        flow, a, _, b = start(
            one, a_step("a"), a_step("c"), a_step("b", 0, 1, policy=IGNORE), name="f", context=b'{"x":1}'
        )
        run(one, a)
        die(one, a + 1)
        assert fed(one) == [
            {"id": flow, "name": "f", "step": "b", "context": {"x": 1}, "results": {"a": {"ok": True}},
             "states": {"a": "completed", "c": "dead"}, "signals": {}}
        ]  # fmt: skip
        assert states(one, b) == [RUNNING]

    @pytest.mark.parametrize("key", ["", "acme"])
    def test_what_steps_are_told_counts_in_the_size_of_a_lease(self, one: Store, key: str) -> None:
        """One result is told to each of those after it: what is leased at once is what all of them are told."""
        after = [NewStep("fifo", NewJob(b"1", key=key), name=f"s{n}", parents=[(0, CANCEL)]) for n in range(9)]
        _, a, *rest = start(one, a_step("a"), *after, context=b'"%s"' % (b"c" * 500))
        token = leased(one).token
        with one.transaction(NOW) as tx:
            tx.complete(token, [tx_done(a, b'"%s"' % (b"x" * 500))])
            tx.progress_flows(PLENTY)
        sizes = (3_500, 1, 1_100)
        assert [ids_of(leased(one, size=size)) for size in sizes] == [rest[:3], rest[3:4], rest[4:5]]
        assert ids_of(leased(one)) == rest[5:]

    def test_the_context_counts_in_the_size_of_a_lease_for_steps_of_flows_in_the_flow(self, one: Store) -> None:
        _, _, a, b = start(
            one, nested(), a_step("a", flow=0), a_step("b", flow=0), context=b'"%s"' % (b"c" * 500)
        )  # fmt: skip
        assert [ids_of(leased(one, size=800)) for _ in range(2)] == [[a], [b]]

    def test_signals_count_in_the_size_of_a_lease_and_jobs_beside_steps_cost_what_they_are(self, one: Store) -> None:
        flow, a, b = start(one, a_step("a", signals=("s",)), a_step("b", signals=("s",)))
        asked(one, lambda tx: tx.signal_flow(flow, "s", b'"%s"' % (b"x" * 1_000)))
        go_on(one)
        plain = put(one, *[b"1"] * 50)
        assert ids_of(leased(one, size=1_500)) == [a]
        assert ids_of(leased(one, size=1_500)) == [b, *plain]

    def test_a_flow_has_so_many_different_signals_and_no_more(self, one: Store, two: Store) -> None:
        flow, _ = start(one, a_step("a", signals=("s0", "last")))
        with one.transaction(NOW) as tx:
            for number in range(FLOW_SIGNALS_MAX - 1):
                assert tx.signal_flow(flow, f"s{number}", b"1")
        with pytest.raises(WrongState, match="different signals"):
            asked(two, lambda tx: tx.signal_flow(flow, "more", b"1"))
        assert not asked(two, lambda tx: tx.signal_flow(flow, "s7", b"2"))
        with pytest.raises(WrongState, match=rf"flow {flow} would have 1,001 different signals"):
            start(two, a_step("b", signals=("s1", "more")), into=flow)
        start(two, a_step("b", signals=("s1", "s2")), into=flow)
        assert asked(one, lambda tx: tx.signal_flow(flow, "last", b"1"))

    def test_signals_are_counted_for_the_whole_flow(self, one: Store) -> None:
        many = [
            a_step(signals=[f"s{number}" for number in range(begin, begin + 30)])
            for begin in range(0, FLOW_SIGNALS_MAX + 1, 30)
        ]
        with pytest.raises(WrongState, match="the flow would have 1,020 different signals"):
            start(one, *many)
        inner = [each._replace(flow=0) for each in many[:17]]
        with pytest.raises(WrongState, match="the flow would have 1,020 different signals"):
            start(one, nested(), *inner, *many[17:])
        flow, within, *_ = start(one, nested(), *inner)
        for added in range(17, 33):
            start(one, many[added], into=flow)
        assert refused(one, many[33], into=within) is WrongState

    def test_results_too_large_to_feed_on_end_the_step(self, one: Store) -> None:
        _, a, b = start(one, a_step("a"), a_step("b", 0))
        token = leased(one).token
        with one.transaction(NOW) as tx:
            big = json.dumps("x" * 1_100_000).encode()
            tx.complete(token, [tx_done(a, big)])
            tx.progress_flows(100)
        assert states(one, b) == [DEAD]

    def test_a_condition_that_takes_too_much_skips_its_step_and_nothing_else(self, one: Store) -> None:
        wide = "[" + ",".join("@" * 16) + "][]"
        seen, found = "context|" + "|".join([wide] * 6), "length(context[?@ > `0`]) > `0`"  # the first is refused anew
        rules = [json.dumps({"when": text}).encode() for text in (seen, found, "context[0] == `0`")]
        steps = [a_step(None, 0, rules=each) for each in rules]
        _, a, b, c, d = start(one, a_step("a"), *steps, context=json.dumps(list(range(9_000))).encode())
        run(one, a)
        assert states(one, b, c, d) == [CANCELLED, CANCELLED, QUEUED]

    def test_many_conditions_after_one_step_are_all_looked_at_in_turn(self, one: Store) -> None:
        rules = [json.dumps({"when": f"results.a.ok && `{number}`"}).encode() for number in range(50)]
        flow, a, *others = start(one, a_step("a"), *[a_step(None, 0, rules=each) for each in rules])
        run(one, a)
        assert states(one, *others) == [QUEUED] * 50
        run(one, *others)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_condition_decides_whether_a_step_runs(self, one: Store) -> None:
        rules = [json.dumps({"when": text}).encode() for text in ("results.a.ok", "results.a.no", "sum(results)")]
        flow, a, b, c, d, e = start(
            one,
            a_step("a"),
            *[a_step(name, 0, rules=each) for name, each in zip("bcd", rules, strict=True)],
            a_step("e", 2),
        )
        run(one, a)
        assert states(one, b, c, d, e) == [QUEUED, CANCELLED, CANCELLED, QUEUED]
        run(one, b, e)
        assert state_of(one, flow) is FlowState.COMPLETED
        assert asked(one, lambda tx: tx.flow(flow)).counts.skipped == 2

    def test_a_step_knows_of_a_flow_in_its_flow_that_it_has_ended_in_the_same_transaction(self, one: Store) -> None:
        """Its row is written at the end of that; the condition, and what a step that is leased in it is told, count."""
        when = json.dumps({"when": "states.inner == 'completed'"}).encode()
        _, _, x, b, c = start(
            one, nested(name="inner"), a_step("x", flow=0), a_step("b", 0, rules=when), a_step("c", 0)
        )  # fmt: skip
        token = leased(one).token
        with one.transaction(NOW) as tx:
            tx.complete(token, [Completion(x, NOW, NOW)])
            tx.progress_flows(PLENTY)
            told = [json.loads(job.payload[job.own_bytes :])["flow"] for job in tx.lease("fifo", 1, 2, 1 << 20).jobs]
        assert states(one, b, c) == [RUNNING, RUNNING]
        assert [(each["states"], each["results"]) for each in told] == [({"inner": "completed"}, {"inner": None})] * 2

    def test_a_step_knows_of_a_flow_in_its_flow_that_it_runs_again_in_the_same_transaction(self, one: Store) -> None:
        _, _, x, b = start(one, nested(name="inner"), a_step("x", flow=0), a_step("b", 0))
        run(one, x)
        with one.transaction(NOW) as tx:
            tx.revive(x)
            jobs = tx.lease("fifo", 1, 2, 1 << 20).jobs
            (told,) = (json.loads(job.payload[job.own_bytes :])["flow"] for job in jobs if job.id == b)
        assert (told["states"], told["results"]) == ({"inner": "running"}, {})

    def test_a_step_that_is_told_anew_is_told_what_its_first_run_has_kept(self, one: Store) -> None:
        _, a, b = start(one, a_step("a"), a_step("b", 0))
        run(one, a)
        token = leased(one).token
        with one.transaction(NOW) as tx:
            assert tx.checkpoint(token, b, "", b'{"page": 7}')
        (job,) = asked(one, lambda tx: tx.leased_jobs(token)).jobs
        assert json.loads(job.payload[job.own_bytes :])["cursor"] == {"page": 7}

    def test_steps_that_one_step_frees_become_ready_in_their_order(self, one: Store) -> None:
        others = [a_step(None, 0)._replace(job=NewJob(b"1", level % 2)) for level in range(6)]
        _, a, *freed = start(one, a_step("a"), *others)
        run(one, a)
        assert ids_of(leased(one)) == freed

    def test_steps_of_several_keys_become_ready_in_their_order_too(self, one: Store) -> None:
        others = [a_step(None, 0)._replace(job=NewJob(b"1", key=key)) for key in ("a", "b", "c", "a", "b", "c")]
        _, a, *freed = start(one, a_step("a"), *others)
        run(one, a)
        assert ids_of(leased(one)) == freed

    def test_a_step_that_runs_again_waits_for_what_has_just_ended_and_not_been_told(self, one: Store) -> None:
        _, a, b, c = start(one, a_step("a"), a_step("b"), a_step("c", 0, 1))
        asked(one, lambda tx: tx.cancel(c))
        go_on(one)
        token = leased(one, jobs=1).token
        with one.transaction(NOW) as tx:
            tx.complete(token, [Completion(a, NOW, NOW)])
            tx.revive(c)
        assert states(one, c) == [BLOCKED]
        go_on(one)
        assert states(one, a, b, c) == [COMPLETED, QUEUED, BLOCKED]
        run(one, b)
        run(one, c)

    def test_a_flow_that_runs_again_in_this_transaction_is_not_pruned(self, one: Store) -> None:
        flow, a, b = start(one, a_step("a"), a_step("b", 0))
        die(one, a)
        assert (states(one, a, b), state_of(one, flow)) == ([DEAD, CANCELLED], FlowState.DEAD)
        with one.transaction(NOW + 1) as tx:
            assert tx.retry_steps([(flow, 0)], 100).steps == 2
            assert tx.prune_flows(FlowState.DEAD, NOW + 1, 100) == 0
        run(one, a)
        run(one, b)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_signal_is_awaited_and_may_have_come_before(self, one: Store, two: Store) -> None:
        flow, a = start(one, a_step("a", signals=("go",)))
        assert states(one, a) == [BLOCKED]
        assert asked(two, lambda tx: tx.signal_flow(flow, "go", b'"yes"'))
        assert not asked(one, lambda tx: tx.signal_flow(flow, "go", b'"no"'))
        go_on(one)
        assert asked(one, lambda tx: tx.signal_flow(flow, "early", b"2"))
        _, b = start(one, a_step("b", "a", signals=("early", "go")), into=flow)
        assert states(one, a, b) == [QUEUED, BLOCKED]
        assert fed(one)[0]["signals"] == {"go": "yes"}
        complete(one, 1, a)
        go_on(one)
        assert fed(one)[0]["signals"] == {"early": 2, "go": "yes"}

    def test_steps_are_added_after_those_that_have_ended(self, one: Store) -> None:
        flow, a, b = start(one, a_step("a"), a_step("b"))
        run(one, a)
        _, c, d = start(one, a_step("c", "a"), a_step("d", "a", "b"), into=flow)
        go_on(one)
        assert states(one, c, d) == [QUEUED, BLOCKED]
        run(one, b, c)
        run(one, d)
        assert state_of(one, flow) is FlowState.COMPLETED
        assert refused(one, a_step("e"), into=flow) is WrongState

    def test_what_cannot_be_added_changes_nothing(self, one: Store) -> None:
        flow, _ = start(one, a_step("a"))
        assert refused(one, a_step("a"), into=flow) is WrongState
        assert refused(one, a_step("b", "nowhere"), into=flow) is UnknownFlow
        assert refused(one, a_step("b"), into=flow + 100) is UnknownFlow
        assert refused(one, a_step("b"), into=flow, scope="other") is UnknownFlow
        assert counts(one) == {"queued": 1}

    def test_a_flow_is_cancelled_as_a_whole(self, one: Store, two: Store) -> None:
        flow, a, b, inner, c = start(one, a_step("a"), a_step("b", 0), nested(), a_step("c", 1, flow=2))
        token = leased(one).token
        asked(one, lambda tx: tx.cancel_flow(flow))
        assert state_of(two, flow) is FlowState.CANCELLING
        running = []
        while asked(two, lambda tx: tx.cancelling):
            running += asked(two, lambda tx: tx.cancel_steps(1))
        go_on(one)
        assert running == [a]
        assert states(one, a, b, c) == [RUNNING, CANCELLED, CANCELLED]
        assert state_of(one, inner) is FlowState.CANCELLED
        bury(one, token, a, CANCELLED)
        go_on(one)
        assert state_of(one, flow) is FlowState.CANCELLED

    def test_nothing_of_a_flow_that_is_cancelled_runs_again(self, one: Store) -> None:
        """Not what was revived before its end was told, nor what belongs to a flow in it that had ended."""
        flow, a, inner, b, _ = start(one, a_step("a"), nested(), a_step("b", flow=1), a_step("c", signals=("s",)))
        token = leased(one).token
        complete(one, token, b)
        go_on(one)
        asked(one, lambda tx: tx.cancel_flow(flow))
        while asked(one, lambda tx: tx.cancelling):
            asked(one, lambda tx: tx.cancel_steps(10))
        complete(one, token, a)
        asked(one, lambda tx: tx.revive(a))
        asked(one, lambda tx: tx.revive(b))
        assert state_of(one, inner) is FlowState.CANCELLING
        while asked(one, lambda tx: tx.cancelling):
            asked(one, lambda tx: tx.cancel_steps(10))
        go_on(one)
        assert states(one, a, b) == [CANCELLED, CANCELLED]
        assert [state_of(one, each) for each in (inner, flow)] == [FlowState.CANCELLED] * 2

    def test_a_flow_runs_again_from_where_it_failed(self, one: Store) -> None:
        flow, a, b, c = start(one, a_step("a"), a_step("b", 0), a_step("c", 1))
        run(one, a)
        die(one, b)
        assert state_of(one, flow) is FlowState.DEAD
        assert retry(one, flow) == 2
        assert states(one, a, b, c) == [COMPLETED, QUEUED, BLOCKED]
        run(one, b)
        run(one, c)
        assert state_of(one, flow) is FlowState.COMPLETED

    @pytest.mark.parametrize("at_once", [1, 2, 3, 100])
    def test_jobs_that_came_later_to_a_flow_in_the_flow_are_retried_before_what_comes_after_it(
        self, one: Store, at_once: int
    ) -> None:  # fmt: skip
        """They have higher ids than that, which must find the flow in the flow running; wherever the retry may end."""
        flow, inner, a, b = start(one, nested(), a_step("a", flow=0), a_step("b", 0))
        token = leased(one).token
        with one.transaction(NOW) as tx:
            tx.complete(token, [Completion(a, NOW, NOW)])
            ((c,), *_) = tx.insert([Group("fifo", [NewJob(b"2")], flow=inner)])[0]
        go_on(one)
        die(one, c)
        assert states(one, b, c) == [CANCELLED, DEAD]
        assert retry(one, flow, at_once) == 2
        assert states(one, b, c) == [BLOCKED, QUEUED]
        run(one, c)
        run(one, b)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_flow_runs_again_from_a_step(self, one: Store) -> None:
        flow, a, b, c, d = start(one, a_step("a"), a_step("b", 0), a_step("c", 1), a_step("d", 0))
        run(one, a)
        run(one, b, d)
        run(one, c)
        assert retry_from(one, flow, "b") == 2
        assert states(one, a, b, c, d) == [COMPLETED, QUEUED, BLOCKED, COMPLETED]
        assert refusal_of(one, lambda tx: tx.steps_from(flow, "b", 100)) is WrongState
        run(one, b)
        run(one, c)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_retry_that_ends_in_the_middle_leaves_nothing_waiting_for_ever(self, one: Store) -> None:
        flow, *steps = start(one, a_step("a"), *[a_step(None, each) for each in range(5)])
        die(one, steps[0])
        page = asked(one, lambda tx: tx.retry_steps([(flow, 0)], 3))
        assert page == (3, [(flow, steps[2])])
        assert states(one, *steps) == [QUEUED, BLOCKED, BLOCKED, CANCELLED, CANCELLED, CANCELLED]
        for step in steps[:3]:
            run(one, step)
        assert state_of(one, flow) is FlowState.CANCELLED
        assert retry(one, flow, 2) == 3
        for step in steps[3:]:
            run(one, step)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_flow_in_a_flow_is_retried_as_far_as_nothing_before_it_has_failed(self, one: Store) -> None:
        flow, a, inner, x = start(one, a_step("a"), nested(0, name="n"), a_step("x", 0, flow=1))
        die(one, a)
        assert retry(one, inner) == 0
        assert [states(one, a, x), state_of(one, flow)] == [[DEAD, CANCELLED], FlowState.DEAD]
        assert retry_from(one, inner, "x") == 1
        run(one, x)
        assert [state_of(one, each) for each in (inner, flow)] == [FlowState.COMPLETED, FlowState.DEAD]
        assert retry(one, flow, 1) == 1
        run(one, a)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_a_flow_around_waits_for_the_flow_in_it_that_is_retried(self, one: Store) -> None:
        flow, inner, x, y, after = start(
            one, nested(name="n"), a_step("x", flow=0), a_step("y", 1, flow=0), a_step("after", 0)
        )
        die(one, x)
        assert states(one, x, y, after) == [DEAD, CANCELLED, CANCELLED]
        assert retry(one, flow, 1) == 3
        assert states(one, x, y, after) == [QUEUED, BLOCKED, BLOCKED]
        for step in (x, y, after):
            run(one, step)
        assert [state_of(one, each) for each in (inner, flow)] == [FlowState.COMPLETED] * 2

    def test_a_step_that_another_job_is_in_the_way_of_is_not_retried_nor_what_comes_after_it(self, one: Store) -> None:
        rule = Unique()
        one.govern(lambda name: Discipline(group="fifo", unique=rule) if name == "fifo" else by_name(name))
        job, *more = [NewJob(b"%d" % each, unique=fingerprint(rule, "fifo", "", each)) for each in range(3)]
        steps = [
            NewStep("fifo", each, parents=[(0, CANCEL)] if at == 1 else []) for at, each in enumerate((job, *more))
        ]
        flow, a, b, c = start(one, *steps)
        die(one, a)
        die(one, c)
        ((other,),) = asked(one, lambda tx: [answer.ids for answer in tx.insert([Group("fifo", [job])])])
        assert retry(one, flow) == 1
        assert states(one, a, b, c, other) == [DEAD, CANCELLED, QUEUED, QUEUED]

    def test_steps_that_would_be_told_too_much_are_dead_however_many_there_are(self, one: Store) -> None:
        large = b'"' + b"x" * 700_000 + b'"'
        flow, a, b, *rest = start(one, a_step("a"), a_step("b"), *[a_step(None, 0, 1) for _ in range(600)])
        token = leased(one, jobs=2).token
        with one.transaction(NOW) as tx:
            assert not tx.complete(token, [Completion(each, NOW, NOW, large) for each in (a, b)])
        with one.transaction(NOW) as tx:
            while tx.flows_wait:
                tx.progress_flows(64)
            assert sorted(tx.overfed) == rest
        assert counts(one) == {"completed": 2, "dead": 600}
        assert state_of(one, flow) is FlowState.DEAD

    def test_conditions_are_looked_at_some_at_a_time(self, one: Store, two: Store) -> None:
        rules = [json.dumps({"when": f"states.{name} == 'completed'"}).encode() for name in ("a", "b")]
        flow, a, b, *rest = start(
            one, a_step("a"), a_step("b"), *[a_step(f"c{at}", 0, 1, rules=rules[at % 2]) for at in range(50)]
        )
        complete(one, leased(one, jobs=2).token, a, b)
        asked(two, lambda tx: tx.progress_flows(2))
        assert counts(one) == {"completed": 2, "queued": 16, "blocked": 34}
        go_on(one)
        assert counts(one) == {"completed": 2, "queued": 50}
        for step in rest:
            run(one, step)
        assert state_of(one, flow) is FlowState.COMPLETED

    def test_the_first_death_in_a_flow_is_told_by_the_flows_around_it(self, one: Store) -> None:
        flow, _, a, _ = start(
            one, nested(name="in"), a_step("a", flow=0), a_step("b", flow=0), callbacks=calls(on_death="prio")
        )
        die(one, a)
        assert counts(one, "prio") == {"queued": 1}
        assert state_of(one, flow) is FlowState.RUNNING

    @pytest.mark.parametrize(("late", "end"), [(CANCEL, FlowState.DEAD), (IGNORE, FlowState.COMPLETED)])
    def test_whether_a_failure_counts_is_said_by_those_too_that_are_added_later(
        self, one: Store, late: Policy, end: FlowState
    ) -> None:
        flow, a, b, c = start(one, a_step("a"), a_step("b", 0, policy=IGNORE), a_step("c"))
        die(one, a)
        _, added = start(one, a_step("d", "a", policy=late), into=flow)
        go_on(one)
        for step in (c, b, *([added] if late is IGNORE else [])):
            run(one, step)
        assert state_of(one, flow) is end

    def test_a_flow_that_ends_by_being_closed_is_told_of(self, one: Store) -> None:
        (flow,) = start(one, open=True, name="f")
        with one.transaction(NOW) as tx:
            tx.close_flow(flow)
            assert tx.flows_wait
            assert tx.progress_flows(PLENTY) == [FlowEnd(flow, "f", FlowState.COMPLETED)]
            assert not tx.flows_wait

    def test_a_dead_step_that_is_revived_opens_its_flow_again(self, one: Store) -> None:
        flow, inner, a = start(one, nested(), a_step("a", flow=0))
        die(one, a)
        assert state_of(one, flow) is FlowState.DEAD
        asked(one, lambda tx: tx.revive(a))
        assert [state_of(one, each) for each in (flow, inner)] == [FlowState.RUNNING] * 2
        run(one, a)
        assert [state_of(one, each) for each in (flow, inner)] == [FlowState.COMPLETED] * 2

    def test_jobs_go_with_their_flow_and_not_before(self, one: Store) -> None:
        flow, inner, a, _ = start(one, nested(), a_step("a", flow=0), a_step("b", signals=("s",), flow=0))
        asked(one, lambda tx: tx.signal_flow(flow, "t", b"1"))
        run(one, a)
        asked(one, lambda tx: tx.signal_flow(inner, "s", b"1"))
        go_on(one)
        run(one, a + 1)
        assert asked(one, lambda tx: tx.remove([a])) == 0
        assert asked(one, lambda tx: tx.prune_flows(FlowState.DEAD, NOW, 10)) == 0
        while asked(one, lambda tx: tx.prune_flows(FlowState.COMPLETED, NOW, 1)):
            pass
        assert states(one, a) == [None]
        assert asked(one, lambda tx: tx.flow(flow)) is None

    def test_a_flow_that_is_refused_drops_nobodys_jobs(self, one: Store) -> None:
        """One queue would make room, the other has none: neither is touched."""
        bounded = {"fifo": Discipline(group="fifo", max_size=2, when_full="drop_oldest"),
                   "lifo": Discipline(group="lifo", max_size=1)}  # fmt: skip
        one.govern(lambda name: bounded.get(name, by_name(name)))
        old = put(one, b"1", b"2")
        put(one, b"1", queue="lifo")
        assert refused(one, a_step("a"), a_step("b")._replace(queue="lifo")) is QueueFull
        assert states(one, *old) == [QUEUED, QUEUED]
        assert refused(one, a_step("a")) is None
        assert states(one, *old) == [CANCELLED, QUEUED]

    def test_a_repeated_request_is_the_first_flow(self, one: Store, two: Store) -> None:
        first = start(one, a_step("a"), key="k")
        assert start(two, a_step("a"), key="k") == first
        assert counts(one) == {"queued": 1}

    def test_what_else_happens_to_a_blocked_step(self, one: Store) -> None:
        _, a, b, c = start(one, a_step("a"), a_step("b", 0), a_step("c", 1))
        assert asked(one, lambda tx: tx.move("fifo", "lifo", [b])) == 1
        assert counts(one, "lifo") == {"blocked": 1}
        run(one, a)
        assert states(one, b, c) == [QUEUED, BLOCKED]
        assert ids_of(lease(one, "lifo")) == [b]
        put(one, b"other")
        asked(one, lambda tx: tx.expire([c], DEAD, "deadline"))
        assert states(one, c) == [DEAD]


def tx_done(job_id: int, result: bytes) -> Any:
    from supervisor.store.protocol import Completion

    return Completion(job_id, NOW, NOW, result)


def refused(store: Store, *steps: NewStep, **more: Any) -> type | None:
    with store.transaction(NOW) as tx:
        (answer,) = tx.insert([NewFlow(steps, **more)])
        return None if answer.refused is None else type(answer.refused)


def refusal_of(store: Store, question: Any) -> type | None:
    try:
        asked(store, question)
    except (UnknownFlow, WrongState) as error:
        return type(error)
    return None
