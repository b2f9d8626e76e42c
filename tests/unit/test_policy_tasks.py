"""What code knows, and whether that is what a job needs."""

from __future__ import annotations

import pytest

from supervisor.policy.tasks import NO_TASK, Known, Need, believable, meant, meets, need_of, table_of

SEND = Known("send", version=3, oldest=2, aliases=("mail", "post"))
POST = Known("post", version=1)


def test_a_task_goes_by_its_name_and_by_its_aliases() -> None:
    table = table_of([SEND])
    assert {name: table[name] for name in ("send", "mail", "post")} == dict.fromkeys(("send", "mail", "post"), SEND)


def test_a_name_goes_before_an_alias_and_the_first_alias_before_a_later_one() -> None:
    assert table_of([SEND, POST])["post"] is POST
    other = Known("other", aliases=("mail",))
    assert table_of([SEND, other])["mail"] is SEND


def test_who_wrote_a_name_that_no_code_knows_is_asked_about_one_that_is_like_it() -> None:
    tables = [table_of([SEND]), table_of([Known("welcome")])]
    assert meant("welcom", tables) == "did you mean welcome?"
    assert meant("maill", tables) == "did you mean mail?"
    assert meant("post", tables) is None
    assert meant("reconcile", tables) is None


def test_code_meets_what_it_knows_from_its_oldest_version_to_its_own() -> None:
    table = table_of([SEND])
    assert [meets(table, Need("mail", version)) for version in (1, 2, 3, 4)] == [False, True, True, False]
    assert not meets(table, Need("unheard", 1))
    assert not meets({}, Need("", 1))


def test_a_job_of_no_version_needs_no_more_than_its_task() -> None:
    assert meets(table_of([SEND]), Need("mail", 0))
    assert not meets(table_of([SEND]), Need("unheard", 0))


@pytest.mark.parametrize(
    "known",
    [
        [Known("x"), Known("x")],
        [Known("")],
        [Known("x" * 201)],
        [Known("a\nb")],
        [Known("é")],
        [Known("x", aliases=("",))],
        [Known("x", aliases=tuple(map(str, range(101))))],
        [Known("x", 2**70)],
        [Known("x", 1, 2)],
        [Known("x", 1, 0)],
        [Known("x", schema="x" * (64 * 1024 + 1))],
        [Known(str(number)) for number in range(10_001)],
    ],
)
def test_what_no_code_can_know_is_not_believed(known: list[Known]) -> None:
    assert not believable(known)


def test_what_code_can_know_is_believed() -> None:
    assert believable([SEND, POST, Known("z", schema="{}")])
    assert believable([])


def test_what_a_job_says_of_itself_is_what_it_needs() -> None:
    assert need_of("send", 2) == Need("send", 2)
    assert need_of(None, None) == Need(NO_TASK, 0)
