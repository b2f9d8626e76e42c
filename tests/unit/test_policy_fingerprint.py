"""What makes two errors one: class, message without data, innermost frames of the handler."""

from __future__ import annotations

import time

import pytest

from supervisor.policy.fingerprint import Frame, fingerprint, handler_frames, normalised

TRACEBACK = """Traceback (most recent call last):
  File "/srv/app-1.2/myapp/mail.py", line 31, in send
    deliver(job.payload)
  File "/srv/app-1.2/myapp/smtp.py", line 8, in deliver
    connection.sendmail(to)
  File "/usr/lib/python3.12/smtplib.py", line 901, in sendmail
    raise SMTPRecipientsRefused(senderrs)
ValueError: no such user
"""


def of(traceback: str = TRACEBACK, message: str = "no user 17", kind: str = "error", **detail: object) -> str:
    return fingerprint(kind, message, {"type": "ValueError", "traceback": traceback} | detail)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("no user 17", "no user <n>"),
        ("took 3.5 s, -7 too many, at 12:30", "took <n> s, <n> too many, at <n>"),
        ("can't open 'a b' or \"c\" or `d`", "can't open <text> or <text> or <text>"),
        ("no file /srv/a-1/b.txt, nor ~/c, nor ../d", "no file <path>, nor <path>, nor <path>"),
        ("either/or stays, and 1/2 is numbers", "either/or stays, and <n>/<n> is numbers"),
        ("object at 0xDEADbeef", "object at <hex>"),
        ("commit 3f2a9c1bdd of 0f8fad5b-d9cb-469f-a165-70867728950e", "commit <hex> of <hex>"),
        ("a facade and a decade", "a facade and a decade"),
        ("GET https://example.com/a?b=1 failed", "GET <url> failed"),
        ("bounced: bob.17@example.com", "bounced: <address>"),
        ("two\n  lines\there", "two lines here"),
        ("", ""),
    ],
)
def test_what_differs_from_job_to_job_is_taken_out_of_a_message(message: str, expected: str) -> None:
    assert normalised(message) == expected


def test_a_message_counts_up_to_a_length() -> None:
    assert normalised("a" * 1_000 + "b") == normalised("a" * 1_000 + "c")
    assert normalised("a" * 999 + "b") != normalised("a" * 999 + "c")


@pytest.mark.parametrize(
    "evil", ["'" * 1_000, "/a" * 500, "a@" * 500, "0" * 1_000, "a." * 500, "://" * 334, "deadbee" * 143, '"a' * 500]
)
def test_no_message_takes_long(evil: str) -> None:
    began = time.process_time()
    normalised(evil)
    assert time.process_time() - began < 0.1


def test_it_is_sixteen_digits_that_never_change() -> None:
    """They are stored: another rule would tear groups apart at an upgrade."""
    assert fingerprint("error", "no user 17", {"type": "ValueError"}) == "7aca4f393e4f30dc"


@pytest.mark.parametrize(
    "same",
    [
        of(TRACEBACK.replace("line 31", "line 40")),
        of(TRACEBACK.replace("app-1.2", "app-1.3")),
        of(message="no user 18"),
        of(TRACEBACK.replace("line 901, in sendmail", "line 77, in _send")),
        of("Traceback (most recent call last):\n  File \"/x/other.py\", line 1, in f\n"
           "\nDuring handling of the above exception, another exception occurred:\n\n" + TRACEBACK),
        of(last_output="something else"),
    ],
)  # fmt: skip
def test_a_release_other_data_and_what_lies_below_the_handler_change_nothing(same: str) -> None:
    assert same == of()


@pytest.mark.parametrize(
    "other",
    [
        of(TRACEBACK.replace("in deliver", "in other")),
        of(TRACEBACK.replace("smtp.py", "other.py")),
        of(message="no account 17"),
        of(type="KeyError"),
        of(kind="timeout"),
        of(exit_code=1),
        of(signal=11),
    ],
)
def test_another_class_message_place_or_end_is_another_error(other: str) -> None:
    assert other != of()


def test_only_the_innermost_frames_of_the_handler_count() -> None:
    assert handler_frames(TRACEBACK) == [Frame("myapp/mail.py", "send"), Frame("myapp/smtp.py", "deliver")]


def test_a_recursion_is_one_frame_however_deep() -> None:
    line = '  File "/srv/app/tree.py", line 5, in walk\n'
    assert handler_frames(line * 3) == handler_frames(line * 90) == [Frame("app/tree.py", "walk")]


def test_where_no_frame_is_the_handlers_the_innermost_of_all_count() -> None:
    foreign = 'File "/usr/lib/python3.12/json/decoder.py", line 1, in decode\nFile "<string>", line 2, in loads'
    assert handler_frames(foreign) == [Frame("json/decoder.py", "decode"), Frame("<string>", "loads")]


def test_stacks_that_begin_with_the_innermost_frame_are_turned_round() -> None:
    stacks = (
        "Current thread 0x00007f (most recent call first):\n"
        '  File "/srv/app/a.py", line 3 in inner\n  File "/srv/app/a.py", line 9 in outer\n'
    )
    assert handler_frames(stacks) == [Frame("app/a.py", "outer"), Frame("app/a.py", "inner")]


@pytest.mark.parametrize("detail", [{}, {"type": None, "traceback": 7}, {"type": ["x"], "signal": {}}])
def test_what_is_not_of_its_type_counts_as_absent(detail: dict[str, object]) -> None:
    assert fingerprint("error", "x", detail) == fingerprint("error", "x", {})
