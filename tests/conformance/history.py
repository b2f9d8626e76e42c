"""What every store must keep of jobs that have been: dead letters by error, replays, edits, statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.errors import UnknownJob
from supervisor.job import IllegalTransition, State
from supervisor.policy.counting import COUNTS
from supervisor.policy.settle import History
from supervisor.store.history import Edit, NewReplay, Search
from supervisor.store.keyed import LANES_MAX
from supervisor.store.protocol import AttemptError, Completion, NewJob
from tests.conformance.backend import Backend
from tests.conformance.suite import (
    FAILED_ONCE,
    NOW,
    complete,
    counts,
    ids_of,
    leased,
    promote,
    put,
    states,
)

MINUTE = 60_000
PLAIN = NewReplay(b'{"queue":"fifo"}', None, None, None, None, False)


def die(
    store: Any, *messages: str, queue: str = "fifo", kind: str = "ValueError", now: int = NOW, insert: bool = True
) -> list[int]:
    """Jobs that died, each of an error with this message."""
    ids = put(store, *[b"1"] * len(messages), queue=queue, now=now) if insert else []
    given = leased(store, queue, jobs=len(messages), now=now)
    with store.transaction(now) as tx:
        for job, message in zip(given.jobs, messages, strict=True):
            error = AttemptError("error", message, b'{"type":"%s"}' % kind.encode())
            tx.finish(given.token, job.id, State.DEAD, now, "max_attempts", FAILED_ONCE, error)
    return ids or [job.id for job in given.jobs]


def asked(store: Any, question: Any, now: int = NOW) -> Any:
    with store.transaction(now) as tx:
        return question(tx)


def pages_of_key(store: Any, key: str, jobs_max: int) -> Iterator[list[int]]:
    """The jobs of a key in all queues, page by page."""
    page: list[int] = [0]
    while page := asked(store, lambda tx, after=page[-1]: tx.ids_of_key(key, None, after, jobs_max)):
        yield page


class HistoryConformance:
    """Each test runs on a fresh database with two owners' handles on it."""

    @pytest.fixture
    def backend(self) -> Backend:
        raise LookupError("a backend's test module gives this fixture")

    @pytest.fixture
    def stores(self, backend: Backend) -> Iterator[list[Any]]:
        opened = [backend.open(), backend.open()]
        yield opened
        for store in opened:
            store.close()

    @pytest.fixture
    def one(self, stores: list[Any]) -> Any:
        return stores[0]

    @pytest.fixture
    def two(self, stores: list[Any]) -> Any:
        return stores[1]

    @pytest.fixture(autouse=True)
    def audited(self, backend: Backend, stores: list[Any]) -> Iterator[None]:
        yield
        assert backend.complaints() == []

    def groups(self, backend: Backend) -> dict[tuple[str, str], int]:
        """(queue, message of the group) to its count, as another reader sees it."""
        raise LookupError("a backend's test module gives this")

    def figures(self, backend: Backend) -> dict[tuple[str, int], dict[str, Any]]:
        """(queue, minute) to its counts that are not zero, and to how many runs and waits were measured."""
        raise LookupError("a backend's test module gives this")

    # -- dead letters ------------------------------------------------------------------------------------------

    def test_dead_letters_of_one_error_are_one_group_in_each_queue(self, one: Any, backend: Backend) -> None:
        die(one, "no user 1", "no user 2", "no disk")
        die(one, "no user 3", queue="fifo.b")
        assert self.groups(backend) == {("fifo", "no user 1"): 2, ("fifo", "no disk"): 1, ("fifo.b", "no user 3"): 1}

    def test_a_job_that_is_dead_without_an_error_is_grouped_by_its_reason(self, one: Any, backend: Backend) -> None:
        put(one, b"1")
        token = leased(one).token
        with one.transaction(NOW) as tx:
            tx.finish(token, 1, State.DEAD, None, "unfinished", History(), None)
        assert self.groups(backend) == {("fifo", "unfinished"): 1}

    def test_no_other_end_leaves_a_letter(self, one: Any, backend: Backend) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        complete(one, token, 1)
        with one.transaction(NOW) as tx:
            tx.finish(token, 2, State.CANCELLED, NOW, "x", History(), AttemptError("cancelled", "x"))
        assert self.groups(backend) == {}

    def test_a_letter_leaves_its_group_when_its_job_is_revived_or_removed(
        self, one: Any, two: Any, backend: Backend
    ) -> None:
        first, second, third = die(one, "no user 1", "no user 2", "no user 3")
        asked(two, lambda tx: tx.revive(first))
        assert self.groups(backend) == {("fifo", "no user 1"): 2}
        asked(one, lambda tx: tx.remove([second]))
        assert self.groups(backend) == {("fifo", "no user 1"): 1}
        asked(two, lambda tx: tx.remove([third]))
        assert self.groups(backend) == {}

    def test_a_letter_moves_with_its_job(self, one: Any, backend: Backend) -> None:
        first, _ = die(one, "no user 1", "no user 2")
        asked(one, lambda tx: tx.move("fifo", "fifo.b", [first]))
        assert self.groups(backend) == {("fifo", "no user 1"): 1, ("fifo.b", "no user 1"): 1}

    def test_letters_of_an_error_are_found_page_by_page(self, one: Any) -> None:
        ids = die(one, "no user 1", "no disk", "no user 2", "no user 3")
        (other,) = die(one, "no user 4", queue="fifo.b")
        mark = asked(one, lambda tx: tx.fingerprint_of(ids[0]))
        assert asked(one, lambda tx: tx.letters_after(mark, None, 0, 2)) == [ids[0], ids[2]]
        assert asked(one, lambda tx: tx.letters_after(mark, None, ids[2], 9)) == [ids[3], other]
        assert asked(one, lambda tx: tx.letters_after(mark, "fifo.b", 0, 9)) == [other]
        assert asked(one, lambda tx: tx.letters_after("0" * 16, None, 0, 9)) == []

    def test_a_transaction_that_fails_leaves_no_letter(self, one: Any, backend: Backend) -> None:
        put(one, b"1")
        token = leased(one).token
        with pytest.raises(RuntimeError), one.transaction(NOW) as tx:
            tx.finish(token, 1, State.DEAD, NOW, "x", FAILED_ONCE, AttemptError("error", "x"))
            raise RuntimeError
        assert self.groups(backend) == {}
        assert states(one, 1) == [State.RUNNING]

    # -- replays -----------------------------------------------------------------------------------------------

    def test_a_replay_is_kept_as_it_was_asked_for(self, one: Any, two: Any) -> None:
        new = NewReplay(b'{"queue":"fifo"}', 10, 5, 1_000, 2, True)
        number = asked(one, lambda tx: tx.begin_replay(new))
        (found,) = asked(two, lambda tx: tx.open_replays())
        assert (found.id, found.state, found.chosen, found.jobs_max) == (number, "choosing", new.chosen, 10)
        assert (found.pace_jobs, found.pace_ms, found.canary, found.stop_on_failure) == (5, 1_000, 2, True)
        assert asked(two, lambda tx: tx.replay(number)) == found
        assert asked(two, lambda tx: tx.replay(number + 1)) is None

    def test_a_replay_that_has_ended_is_open_no_more_and_forgotten_in_time(self, one: Any) -> None:
        number = asked(one, lambda tx: tx.begin_replay(PLAIN))
        found = asked(one, lambda tx: tx.replay(number))
        asked(one, lambda tx: tx.set_replay(found._replace(state="finished", ended_at_ms=NOW, completed=3)))
        assert asked(one, lambda tx: tx.open_replays()) == []
        assert asked(one, lambda tx: tx.replay(number)).completed == 3
        assert asked(one, lambda tx: tx.forget_replays(NOW, 10)) == 0
        assert asked(one, lambda tx: tx.forget_replays(NOW + 1, 10)) == 1
        assert asked(one, lambda tx: tx.replay(number)) is None

    def test_a_released_job_is_due_when_it_was_told_with_fresh_budgets(self, one: Any, two: Any) -> None:
        (job,) = die(one, "x")
        asked(one, lambda tx: tx.choose(1, [job]))
        assert asked(two, lambda tx: tx.release_replayed(1, job, NOW + 500)) is True
        assert states(one, job) == [State.SCHEDULED]
        assert asked(one, lambda tx: tx.standing([job])[job].history) == History()
        assert asked(two, lambda tx: (tx.replayed_after(1, 0, 0, 9), tx.replayed_after(1, 1, 0, 9))) == ([], [job])
        assert promote(two, NOW + 499) == 0
        assert promote(one, NOW + 500) == 1
        assert ids_of(leased(two)) == [job]

    def test_a_chosen_job_that_is_not_dead_any_more_is_passed_over(self, one: Any) -> None:
        first, second = die(one, "x", "y")
        asked(one, lambda tx: tx.choose(1, [first, second]))
        asked(one, lambda tx: tx.revive(first))
        asked(one, lambda tx: tx.remove([second]))
        for job in (first, second):
            assert asked(one, lambda tx, job=job: tx.release_replayed(1, job, NOW)) is False
        assert asked(one, lambda tx: tx.replayed_after(1, 0, 0, 9) + tx.replayed_after(1, 1, 0, 9)) == []

    def test_only_a_dead_job_can_be_revived_for_later(self, one: Any) -> None:
        put(one, b"1")
        with one.transaction(NOW) as tx:
            with pytest.raises(IllegalTransition):
                tx.revive_at(1, NOW + 1)
            with pytest.raises(UnknownJob):
                tx.revive_at(2, NOW + 1)

    # -- edits -------------------------------------------------------------------------------------------------

    def test_a_queued_job_gets_what_it_is_given(self, one: Any, two: Any) -> None:
        put(one, b"1")
        assert asked(two, lambda tx: tx.edit(1, Edit(b"2", 0, b'{"tags":["a"]}'))) is State.QUEUED
        (job,) = leased(one).jobs
        assert (job.payload, job.options) == (b"2", b'{"tags":["a"]}')

    def test_what_is_not_given_stays(self, one: Any) -> None:
        put(one, b"1")
        asked(one, lambda tx: tx.edit(1, Edit(None, 0, None)))
        (job,) = leased(one).jobs
        assert (job.payload, job.options, job.due_at_ms) == (b"1", None, None)

    def test_with_another_priority_a_job_stands_behind_those_that_have_it(self, one: Any) -> None:
        jobs = [NewJob(b"1"), NewJob(b"2", priority=5), NewJob(b"3")]
        put(one, *jobs, queue="priority")
        asked(one, lambda tx: tx.edit(3, Edit(None, 5, None)))
        assert ids_of(leased(one, "priority")) == [2, 3, 1]

    def test_with_the_same_priority_a_job_keeps_its_place(self, one: Any) -> None:
        put(one, b"1", b"2", queue="priority")
        asked(one, lambda tx: tx.edit(1, Edit(b"9", 0, None)))
        assert ids_of(leased(one, "priority")) == [1, 2]

    def test_a_queued_job_can_be_put_off_and_a_scheduled_one_be_had_sooner(self, one: Any, two: Any) -> None:
        put(one, b"1", NewJob(b"2", due_at_ms=NOW + 9_000))
        for job, due in ((1, NOW + 500), (2, NOW + 100)):
            change = Edit(None, 0, None, due)
            assert asked(two, lambda tx, job=job, change=change: tx.edit(job, change)) is State.SCHEDULED
        assert counts(one) == {"scheduled": 2}
        assert promote(one, NOW + 99) == 0
        assert promote(one, NOW + 500) == 2
        given = leased(two)
        assert ids_of(given) == [2, 1]
        assert [job.due_at_ms for job in given.jobs] == [NOW + 100, NOW + 500]

    def test_a_job_that_is_put_off_keeps_what_its_runs_were_charged_to(self, one: Any) -> None:
        put(one, b"1")
        token = leased(one).token
        with one.transaction(NOW) as tx:
            tx.reschedule(token, 1, NOW + 1, History(2, 1, 0), AttemptError("error", "x"), solo=True)
        asked(one, lambda tx: tx.edit(1, Edit(None, 0, None, NOW + 50)))
        assert promote(one, NOW + 50) == 1
        (job,) = leased(one).jobs
        assert (job.attempt, job.mark) == (4, 2)

    def test_a_final_job_can_be_edited_before_it_is_revived_but_not_put_off(self, one: Any) -> None:
        (job,) = die(one, "x")
        assert asked(one, lambda tx: tx.edit(job, Edit(b"2", 0, None))) is State.DEAD
        with one.transaction(NOW) as tx, pytest.raises(IllegalTransition):
            tx.edit(job, Edit(None, 0, None, NOW + 1))
        asked(one, lambda tx: tx.revive(job))
        assert leased(one).jobs[0].payload == b"2"

    def test_a_running_job_is_not_edited_and_an_unknown_one_neither(self, one: Any) -> None:
        put(one, b"1")
        leased(one)
        with one.transaction(NOW) as tx:
            with pytest.raises(IllegalTransition):
                tx.edit(1, Edit(b"2", 0, None))
            with pytest.raises(UnknownJob):
                tx.edit(9, Edit(b"2", 0, None))
            assert tx.payload_of(1) == b"1"
            assert tx.payload_of(9) is None

    # -- searches ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("search", "expected"),
        [
            (Search(), [1, 2, 3]),
            (Search(since_ms=NOW + 1_000), [2, 3]),
            (Search(until_ms=NOW + 1_000), [1]),
            (Search(since_ms=NOW + 6_000, finished=True), [3]),
            (Search(until_ms=NOW + 6_000, finished=True), []),
            (Search(tag="b"), [1]),
            (Search(tag="B"), []),
            (Search(text="alpha"), [1]),
            (Search(text='say "hi"'), [2]),
            (Search(text="no user"), [3]),
            (Search(error_type="KeyError"), [3]),
            (Search(tag="b", text="beta"), []),
            (Search(key="acme"), [1]),
            (Search(key=""), [2, 3]),
            (Search(key="acme", text="beta"), []),
            (Search(task="greet"), [2]),
            (Search(task="gree"), []),
            (Search(task="greet", text="alpha"), []),
        ],
    )
    def test_a_search_means_what_passes_all_that_it_says(self, one: Any, search: Search, expected: list[int]) -> None:
        put(one, NewJob(b'{"x":"alpha"}', options=b'{"tags":["a","b"]}', key="acme"))
        put(one, NewJob(b'{"x":"beta, say \\"hi\\""}', options=b'{"task":"greet"}'), now=NOW + 1_000)
        die(one, "no user 3", queue="lifo", kind="KeyError", now=NOW + 6_000)
        assert asked(one, lambda tx: tx.meant([1, 2, 3], search)) == expected

    def test_what_is_redacted_is_not_found(self, one: Any) -> None:
        put(one, b'{"secret":"alpha","plain":"alphabet"}', b'{"secret":"alpha"}')
        asked_for = Search(text="alpha")
        hidden = {"fifo": ("secret",)}.get
        assert asked(one, lambda tx: tx.meant([1, 2], asked_for, hidden)) == [1]

    # -- keys --------------------------------------------------------------------------------------------------

    def test_jobs_of_a_key_are_found_page_by_page_in_the_order_of_their_ids(self, one: Any, two: Any) -> None:
        """Of several queues as well, whose jobs lie between each other, and of which one has more than the others."""
        mine = []
        for number in range(12):
            queue = ("fifo", "lifo", "fifo")[number % 3]
            mine += put(one, NewJob(b"1", key="acme"), queue=queue)
            put(one, NewJob(b"1", key="other"), NewJob(b"1"), queue=queue)
        for jobs_max in (1, 2, 3, 5, 100):
            pages = list(pages_of_key(two, "acme", jobs_max))
            assert max(map(len, pages)) <= jobs_max
            assert [job_id for page in pages for job_id in page] == mine
        assert asked(one, lambda tx: tx.ids_of_key("acme", "lifo", 0, 9)) == mine[1::3]
        assert asked(one, lambda tx: tx.ids_of_key("acme", "priority", 0, 9)) == []
        assert asked(one, lambda tx: tx.ids_of_key("nobody", None, 0, 9)) == []

    def test_jobs_of_a_key_in_a_final_state_are_found_with_where_to_go_on(self, one: Any) -> None:
        put(one, *[NewJob(b"1", key="acme") for _ in range(4)])
        given = leased(one, jobs=3)
        complete(one, given.token, 1)
        with one.transaction(NOW) as tx:
            tx.finish(given.token, 2, State.DEAD, NOW, "x", FAILED_ONCE, AttemptError("error", "x"))
        assert asked(one, lambda tx: tx.ids_of_key("acme", "fifo", 0, 9, State.DEAD)) == [2, 4]
        assert asked(one, lambda tx: tx.ids_of_key("acme", None, 2, 9, State.DEAD)) == [4]
        assert asked(one, lambda tx: tx.ids_of_key("acme", None, 4, 9, State.DEAD)) == []
        assert asked(one, lambda tx: tx.ids_of_key("acme", None, 0, 1, State.DEAD)) == [2]

    def test_a_job_is_found_by_its_key_where_it_was_moved_to_and_not_after_it_was_removed(self, one: Any) -> None:
        put(one, NewJob(b"1", key="acme"), NewJob(b"2", key="acme"))
        asked(one, lambda tx: tx.move("fifo", "lifo", [2]))
        assert asked(one, lambda tx: tx.ids_of_key("acme", "fifo", 0, 9)) == [1]
        assert asked(one, lambda tx: tx.ids_of_key("acme", "lifo", 0, 9)) == [2]
        asked(one, lambda tx: (tx.cancel(2), tx.remove([2])))
        assert asked(one, lambda tx: tx.ids_of_key("acme", None, 0, 9)) == [1]

    def test_what_has_no_key_or_one_of_very_many_queues_is_looked_for_among_all(self, one: Any) -> None:
        put(one, b"1")
        assert asked(one, lambda tx: tx.ids_of_key("", "fifo", 0, 9)) is None
        for number in range(LANES_MAX):
            put(one, NewJob(b"1", key="acme"), queue=f"fifo.{number}")
        assert [job_id for page in pages_of_key(one, "acme", 9) for job_id in page] == list(range(2, LANES_MAX + 2))
        put(one, NewJob(b"1", key="acme"), queue="fifo.more")
        assert asked(one, lambda tx: tx.ids_of_key("acme", None, 0, 9)) is None
        assert asked(one, lambda tx: tx.ids_of_key("acme", "fifo.more", 0, 9)) == [LANES_MAX + 2]

    # -- counts and ids ----------------------------------------------------------------------------------------

    def test_jobs_of_a_state_are_counted_and_the_oldest_found(self, one: Any) -> None:
        put(one, b"1", b"2", b"3")
        token = leased(one, jobs=2).token
        with one.transaction(NOW) as tx:
            tx.complete(token, [Completion(2, NOW, NOW)])
            assert (tx.kept("fifo", State.COMPLETED), tx.kept("fifo", State.DEAD)) == (1, 0)
            assert tx.kept("nowhere", State.DEAD) == 0
            assert tx.final_after("fifo", 0, 9) == [(1, None), (2, State.COMPLETED), (3, None)]
            assert tx.final_after("fifo", 2, 9) == [(3, None)]
            assert tx.ids_after(1, 1) == [2]

    # -- statistics --------------------------------------------------------------------------------------------

    def test_what_a_transaction_does_is_counted_with_it(self, one: Any, two: Any, backend: Backend) -> None:
        put(one, b"1", b"2", b"3", b"4")
        given = leased(two, jobs=3, now=NOW + 20)
        with one.transaction(NOW + 200) as tx:
            tx.complete(given.token, [Completion(1, NOW + 30, NOW + 130)])
            tx.count_run("fifo", given.token, 2, NOW + 130, ("failed", "retried"), measured=True)
            tx.reschedule(given.token, 2, NOW + 900, FAILED_ONCE, AttemptError("error", "x"), solo=False)
            tx.count_run("fifo", given.token, 3, NOW + 150, ("interrupted",), measured=False)
            tx.interrupt(given.token, 3, History(interruptions=1), AttemptError("interrupted", "x"))
            tx.cancel(4)
        (found,) = self.figures(backend).values()
        assert found == {
            "enqueued": 4, "started": 3, "completed": 1, "failed": 1, "retried": 1, "cancelled": 1, "interrupted": 1,
            "runs": 2, "waits": 3,
        }  # fmt: skip

    def test_a_transaction_that_fails_counts_nothing(self, one: Any, backend: Backend) -> None:
        put(one, b"1")
        with pytest.raises(RuntimeError), one.transaction(NOW) as tx:
            tx.cancel(1)
            raise RuntimeError
        put(one, b"2")
        assert self.figures(backend) == {("fifo", NOW // MINUTE): {"enqueued": 2}}

    def test_a_stale_report_and_one_that_is_told_twice_are_not_counted(self, one: Any, backend: Backend) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        with one.transaction(NOW) as tx:
            told = [Completion(job, NOW, NOW) for job in (1, 1, 9)]
            assert tx.complete(token, told) == [1, 9]
            tx.count_run("fifo", token, 1, NOW, ("failed",), measured=True)
            tx.count_run("fifo", token + 1, 2, NOW, ("failed",), measured=True)
        (found,) = self.figures(backend).values()
        assert found == {"enqueued": 2, "started": 1, "completed": 1, "runs": 1, "waits": 1}

    def test_a_run_is_counted_in_the_minutes_in_which_it_began_and_ended(self, one: Any, backend: Backend) -> None:
        put(one, b"1", b"2")
        token = leased(one).token
        later = NOW + 10 * MINUTE
        with one.transaction(later) as tx:
            tx.complete(token, [Completion(1, NOW, NOW + 3 * MINUTE), Completion(2, 5, later)])
        minute = NOW // MINUTE
        assert self.figures(backend) == {
            ("fifo", minute): {"enqueued": 2, "started": 1, "waits": 1},
            ("fifo", minute + 3): {"completed": 1, "runs": 1},
            ("fifo", minute + 10): {"completed": 1, "runs": 1},
            # what a worker says may be anything; it begins no minute of long ago
            ("fifo", minute + 10 - 24 * 60): {"started": 1, "waits": 1},
        }

    def test_waits_are_known_to_whoever_takes_over(self, one: Any, two: Any, backend: Backend) -> None:
        put(one, b"1", NewJob(b"2", due_at_ms=NOW + 1_000))
        promote(one, NOW + 1_000)
        token = leased(one, now=NOW + 1_000).token
        with two.transaction(NOW + 2_000) as tx:
            tx.complete(token, [Completion(1, NOW + 1_100, NOW + 1_100), Completion(2, NOW + 1_100, NOW + 1_100)])
        assert self.waits(backend) == [96, 1_024]  # the buckets of 100 and 1,100

    def test_a_job_that_is_tried_again_waits_from_when_it_was_due(self, one: Any, backend: Backend) -> None:
        put(one, b"1")
        token = leased(one).token
        with one.transaction(NOW) as tx:
            tx.reschedule(token, 1, NOW + 5_000, FAILED_ONCE, AttemptError("error", "x"), solo=False)
        promote(one, NOW + 5_000)
        token = leased(one, now=NOW + 5_010).token
        with one.transaction(NOW + 5_030) as tx:
            tx.complete(token, [Completion(1, NOW + 5_020, NOW + 5_030)])
        assert self.waits(backend) == [20]

    def test_a_job_that_is_revived_waits_from_then(self, one: Any, backend: Backend) -> None:
        (job,) = die(one, "x")
        asked(one, lambda tx: tx.revive(job), now=NOW + 7_000)
        token = leased(one, now=NOW + 7_000).token
        with one.transaction(NOW + 7_040) as tx:
            tx.complete(token, [Completion(job, NOW + 7_040, NOW + 7_040)])
        assert self.waits(backend) == [40]

    def waits(self, backend: Backend) -> list[int]:
        """The shortest wait that each counted one may have been: what its bucket begins with, which is it for few."""
        raise LookupError("a backend's test module gives this")

    def test_minutes_become_hours_and_are_forgotten(self, one: Any, backend: Backend) -> None:
        hour = NOW // (60 * MINUTE) * 60 * MINUTE
        for at in (hour, hour + MINUTE, hour + 59 * MINUTE, hour + 60 * MINUTE):
            put(one, b"1", now=at)
            put(one, b"1", queue="lifo", now=at)
        before = hour + 60 * MINUTE
        assert asked(one, lambda tx: tx.thin_statistics(before, 1)) is True
        assert asked(one, lambda tx: tx.thin_statistics(before, 9)) is False
        minute = hour // MINUTE
        assert self.figures(backend) == {
            (queue, at): {"enqueued": jobs}
            for queue in ("fifo", "lifo")
            for at, jobs in ((minute, 3), (minute + 60, 1))
        }
        assert asked(one, lambda tx: tx.forget_statistics(before, 1)) == 1
        assert asked(one, lambda tx: tx.forget_statistics(before, 9)) == 1
        assert {key[1] for key in self.figures(backend)} == {minute + 60}

    def test_the_counts_are_in_the_order_of_their_names(self, one: Any, backend: Backend) -> None:
        for number, name in enumerate(COUNTS[3:], 1):
            put(one, *[b"1"] * number, queue=f"fifo.{name}")
            given = leased(one, f"fifo.{name}")
            with one.transaction(NOW) as tx:
                for job in given.jobs:
                    tx.count_run(f"fifo.{name}", given.token, job.id, None, (name,), measured=False)
        for number, name in enumerate(COUNTS[3:], 1):
            assert self.figures(backend)["fifo." + name, NOW // MINUTE] == {"enqueued": number, name: number}
