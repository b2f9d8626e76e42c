"""Requests: read into what they are, or refused by the class of error that fits, naming the member."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.errors import Busy, InvalidPayload, JobsupError, PayloadTooLarge, ProtocolError, UsageError
from supervisor.job import State
from supervisor.wire import messages, refusal
from supervisor.wire.messages import AnyRequest, check_payload, decode, failure, reply, request_id

YEAR_10000_MS = 253_402_300_800_000


def request(op: str, **members: Any) -> dict[str, Any]:
    return {"v": 1, "id": 5, "op": op, **members}


def enqueue(**members: Any) -> dict[str, Any]:
    return request("enqueue") | {"queue": "emails", "key": "k-1", "jobs": [{"payload": 1}]} | members


def job(**members: Any) -> dict[str, Any]:
    return enqueue(jobs=[{"payload": 1, **members}])


def read(message: Any) -> AnyRequest:
    return decode(message if isinstance(message, bytes) else json.dumps(message).encode())


def read_job(**members: Any) -> messages.NewJob:
    found = read(job(**members))
    assert isinstance(found, messages.Enqueue)
    return found.jobs[0]


RIGHT = [
    request("hello"), request("status"), request("workers"), request("tree"), request("reload"), request("alerts_test"),
    request("job", job=1), request("wait", job=2**53 - 1, timeout_ms=0), request("cancel", ids=[1, 2]),
    request("retry", ids=[1], force=True), request("pause", queue="a"), request("resume", queue="a"),
    request("move", old="a", new="b"), request("purge", queue="a", state="dead"),
    request("dead_retry", filter={"queue": "a"}), request("dead_delete", filter={"before_ms": 1}),
    request("scale", queue="a", workers=3), request("explain", job=1),
    request("key", queue="a", job_key="k", action="free"),
    request("dead_retry", filter={"fingerprint": "0" * 16}, limit=1, pace_jobs=1, pace_ms=1, canary=1),
    request("dead_stop", replay=1), request("edit", job=1, payload=None), request("edit", job=1, untag=["a"]),
    request("delete", tag="a", by="finished"), request("delete", ids=[1]), request("delete", key=""),
    request("dead_delete", filter={"key": ""}), request("dead_retry", filter={"key": "k" * 200}),
    enqueue(),
    request("cron_list"), request("cron_show", name="a"), request("cron_add", name="a", schedule={"queue": "q"}),
    request("cron_remove", name="a"), request("cron_pause", name="a"), request("cron_resume", name="a"),
    request("cron_run", name="a"),
    request("flow_start", key="k", steps=[{"name": "a", "queue": "q"}, {"queue": "q", "after": {"a": "ignore"}}]),
    request("flow_start", key="k", steps=[{"steps": [{"queue": "q", "wait_for": ["s"]}]}], context={"a": 1}, open=True),
    request("flow", flow=1), request("flow_list", state="dead"), request("flow_signal", flow=1, signal="s", payload=2),
    request("fetch", queue="a"),
    request("fetch", queue="a", jobs_max=256, lease_ms=1, wait_ms=0, consumer="c", key="k"),
    request("extend", token=1), request("extend", token=2**53 - 1, lease_ms=2_592_000_000), request("consumers"),
    request("ack", job=1, token=1, result={"a": 1}, enqueue=[{"queue": "a", "payload": 1, "joins": True}]),
    request("fail", job=1, token=1, message="", type="E", traceback="t", retry_in_ms=0, final=True),
    request("release", token=1, ids=[1], delay_ms=0),
    request("flow_close", flow=1), request("flow_cancel", flow=1), request("flow_retry", flow=1, step="a"),
]  # fmt: skip


def test_every_operation_is_read_as_what_it_is() -> None:
    found = [read(message) for message in RIGHT]
    assert {type(each) for each in found} == set(get_args(AnyRequest))
    assert [each.__struct_config__.tag for each in found] == [message["op"] for message in RIGHT]
    assert {each.id for each in found} == {5}


def test_the_classes_of_access_are_those_of_the_design() -> None:
    by_class: dict[str, set[Any]] = {}
    for kind in get_args(AnyRequest):
        by_class.setdefault(kind.access, set()).add(kind.__struct_config__.tag)
    assert by_class == {
        "enqueue": {"enqueue", "flow_start", "flow_signal", "flow_close"},
        "consume": {"fetch", "extend", "ack", "fail", "release"},
        "status": {
            "consumers",
            "hello",
            "job",
            "explain",
            "status",
            "wait",
            "workers",
            "tree",
            "cron_list",
            "cron_show",
            "flow",
            "flow_list",
        },
        "admin": {
            "cancel",
            "retry",
            "key",
            "pause",
            "resume",
            "move",
            "purge",
            "dead_retry",
            "dead_delete",
            "dead_stop",
            "edit",
            "delete",
            "cron_add",
            "cron_remove",
            "cron_pause",
            "cron_resume",
            "cron_run",
            "flow_cancel",
            "flow_retry",
            "reload",
            "alerts_test",
            "scale",
        },
    }


def test_a_payload_stays_the_text_it_was() -> None:
    frame = b'{"v":1,"id":5,"op":"enqueue","queue":"q","key":"k","jobs":[{"payload": {"b" : 1.50,  "a":[ ]} }]}'
    found = decode(frame)
    assert isinstance(found, messages.Enqueue)
    assert bytes(found.jobs[0].payload) == b'{"b" : 1.50,  "a":[ ]}'


def test_options_not_given_are_none() -> None:
    found = read_job()
    assert [getattr(found, name) for name in found.__struct_fields__[1:]] == [None] * 5 + [()] + [None] * 11


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("priority", [-100, 0, 100]),
        ("delay_ms", [0, 3_153_600_000_000]),
        ("due_at_ms", [0, YEAR_10000_MS - 1]),
        ("timeout_ms", [1, 3_153_600_000_000]),
        ("max_attempts", [1, 1000]),
        ("key", ["k", "customer 7", "\u00e9", "x" * 200]),
        ("idempotency_key", ["k", "order 7", "\u00e9", "x" * 200]),
        ("cost", [1, 1_000_000]),
        ("tags", [["a"] * 0, ["a b", "\u00e9"], ["x" * 64], [str(n) for n in range(32)]]),
    ],
)
def test_options_are_taken_up_to_their_bounds(name: str, values: list[Any]) -> None:
    for value in values:
        found = getattr(read_job(**{name: value}), name)
        assert (list(found) if isinstance(value, list) else found) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", True), ("priority", "1"), ("priority", 1.5), ("priority", -101), ("priority", 101),
        ("priority", 2**70), ("priority", []), ("delay_ms", -1), ("delay_ms", 3_153_600_000_001), ("delay_ms", "5m"),
        ("delay_ms", False), ("due_at_ms", -1), ("due_at_ms", YEAR_10000_MS), ("due_at_ms", "2030-01-01T00:00:00Z"),
        ("timeout_ms", 0), ("timeout_ms", 0.5), ("max_attempts", 0), ("max_attempts", 1001), ("max_attempts", True),
        ("tags", "abc"), ("tags", [1]), ("tags", [""]), ("tags", ["x" * 65]), ("tags", [str(n) for n in range(33)]),
        ("tags", ["a", "a"]), ("tags", ["\u202e"]), ("tags", ["a\tb"]), ("tags", ["\x1b[2J"]), ("tags", None),
        ("unique", True), ("key", ""), ("key", "x" * 201), ("key", "a\tb"), ("key", "\u202e"), ("key", 1), ("cost", 0),
        ("cost", 1_000_001), ("cost", 1.5), ("cost", True), ("cron", "* * * * *"),
        ("idempotency_key", ""), ("idempotency_key", "x" * 201), ("idempotency_key", 7),
        ("idempotency_key", ["k"]),
    ],
)  # fmt: skip
def test_an_option_that_is_not_what_it_may_be_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidPayload, match=rf"^jobs\[1\]\.{name}\b"):
        read(enqueue(jobs=[{"payload": 0}, {"payload": 1, name: value}]))


def test_two_due_times_exclude_each_other() -> None:
    with pytest.raises(InvalidPayload, match=r"jobs\[0\]: delay_ms and due_at_ms exclude each other"):
        read(job(delay_ms=1, due_at_ms=1))
    assert read_job(delay_ms=None, due_at_ms=1).due_at_ms == 1


@pytest.mark.parametrize(("one", "other"), [("ttl_ms", "expires_at_ms"), ("deadline_ms", "deadline_at_ms")])
def test_a_time_is_given_in_one_way(one: str, other: str) -> None:
    with pytest.raises(InvalidPayload, match=rf"jobs\[0\]: {one} and {other} exclude each other"):
        read(job(**{one: 1, other: 1}))
    assert getattr(read_job(**{one: None, other: 1}), other) == 1


def test_a_job_needs_a_payload_even_if_it_is_null() -> None:
    assert bytes(read_job(payload=None).payload) == b"null"
    with pytest.raises(InvalidPayload, match=r"^jobs\[0\]\.payload: this member is missing"):
        read(enqueue(jobs=[{}]))
    with pytest.raises(InvalidPayload, match=r"^jobs\[0\]: jobs must be a list of 1 to 10000 objects"):
        read(enqueue(jobs=[1]))


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (enqueue(queue=5), "queue"), (enqueue(queue=""), "queue"), (enqueue(queue="x" * 256), "queue"),
        (enqueue(key=""), "key"), (enqueue(key="x" * 65), "key"), (enqueue(key="a b"), "key"),
        (enqueue(key="a\n"), "key"), (enqueue(key="\u00e9"), "key"), (enqueue(key=1), "key"),
        (enqueue(jobs=[]), "jobs"), (enqueue(jobs={}), "jobs"), (enqueue(jobs=None), "jobs"),
        (enqueue(within_ms=-1), "within_ms"), (enqueue(within_ms=86_400_001), "within_ms"),
        (enqueue(surplus=1), "surplus"), (request("enqueue", queue="q", key="k"), "jobs"),
        (request("hello", surplus=1), "surplus"), (request("job"), "job"), (request("job", job=0), "job"),
        (request("job", job="12"), "job"), (request("job", job=True), "job"), (request("job", job=2**53), "job"),
        (request("job", job=-1), "job"), (request("job", job=2**70), "job"), (request("job", job=1.0), "job"),
        (request("wait", job=1), "timeout_ms"), (request("wait", job=1, timeout_ms=-1), "timeout_ms"),
        (request("wait", job=1, timeout_ms=86_400_001), "timeout_ms"), (request("cancel", ids=[]), "ids"),
        (request("cancel", ids=5), "ids"), (request("cancel", ids=[1, 2**70]), r"ids\[1\]"),
        (request("cancel", ids=["x"]), r"ids\[0\]"), (request("cancel", ids=[-1]), r"ids\[0\]"),
        (request("cancel", ids=list(range(1, 10_002))), "ids"), (request("retry", ids=[1], force=1), "force"),
        (request("pause"), "queue"), (request("move", old="a"), "new"), (request("move", new="a"), "old"),
        (request("purge", queue="q", state="gone"), "state"), (request("purge", queue="q"), "state"),
        (request("dead_retry"), "filter"), (request("dead_retry", filter={}), "filter"),
        (request("dead_retry", filter={"queue": None}), "filter"), (request("dead_retry", filter=[]), "filter"),
        (request("dead_retry", filter={"state": "dead"}), r"filter\.state"),
        (request("dead_delete", filter={"ids": [0]}), r"filter\.ids\[0\]"),
        (request("dead_delete", filter={"before_ms": "x"}), r"filter\.before_ms"),
        (request("dead_delete", filter={"text": ""}), r"filter\.text"),
    ],
)  # fmt: skip
def test_any_other_member_that_is_wrong_is_a_mistake_of_use_and_named(message: dict[str, Any], place: str) -> None:
    with pytest.raises(UsageError, match=rf"^{place}(?![a-z_])"):
        read(message)
    assert request_id(json.dumps(message).encode()) == 5


def test_a_group_above_the_limit_is_too_large_and_says_the_limit() -> None:
    with pytest.raises(PayloadTooLarge, match="10,000 jobs"):
        read(enqueue(jobs=[{"payload": 1}] * 10_001))
    found = read(enqueue(jobs=[{"payload": 1}] * 10_000))
    assert isinstance(found, messages.Enqueue)
    assert len(found.jobs) == 10_000


@pytest.mark.parametrize(
    ("message", "sentence", "id_found"),
    [
        (b"", "not JSON: it ends too early", None), (b"hello", "not JSON", None), (b"\xff", "not UTF-8", None),
        (b'{"v":1,"id":5', "not JSON", None), (b'{"v":1,"id":5,"op":"hello"} {}', "trailing", 5),
        (b"{}", "v must be 1", None),
        (b"[]", "not a JSON object", None), (b"5", "not a JSON object", None), (b'"x"', "not a JSON object", None),
        (b'{"v":1,"id":5,"op":"enqueue","queue":"\xff"}', "UTF-8", 5),
        (request("hello") | {"v": 2}, "v must be 1", 5), (request("hello") | {"v": True}, "v must be 1", 5),
        (request("hello") | {"v": "1"}, "v must be 1", 5), ({"id": 5, "op": "hello"}, "v must be 1", 5),
        ({"v": 1, "op": "hello"}, "id must be", None), (request("hello") | {"id": -1}, "id must be", None),
        (request("hello") | {"id": 2**53}, "id must be", None), (request("hello") | {"id": 2**70}, "id must be", None),
        (request("hello") | {"id": "5"}, "id must be", None), (request("hello") | {"id": True}, "id must be", None),
        (request("hello") | {"id": None}, "id must be", None), ({"v": 1, "id": 5}, "op must be", 5),
        (request("hello") | {"op": 7}, "op must be", 5), (request("shutdown"), "op is not", 5),
        (request("enqueue "), "op is not", 5),
        (request("new") | {"v": 2, "surplus": 1}, "v must be 1", 5),
    ],
)  # fmt: skip
def test_what_is_no_request_at_all_is_a_breach_of_the_protocol(
    message: Any, sentence: str, id_found: int | None
) -> None:
    frame = message if isinstance(message, bytes) else json.dumps(message).encode()
    with pytest.raises(ProtocolError, match=sentence):
        decode(frame)
    assert request_id(frame) == id_found


def framed(payload: bytes, head: bytes = b'{"v":1,"id":5,"op":"enqueue",') -> bytes:
    return head + b'"queue":"q","key":"k","jobs":[{"payload":' + payload + b"}]}"


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"NaN", "NaN"), (b"[-Infinity]", "NaN"), (b'"\\ud800"', "surrogate"), (b'{"\\udc00":1}', "surrogate"),
        (b"[" * 10_000 + b"]" * 10_000, "100 levels"), (b"[" * 4_000_000, "100 levels"),
        (b'{"a":' * 100_000, "100 levels"),
    ],
)  # fmt: skip
def test_a_payload_that_spoils_its_whole_frame_is_still_called_a_payload(payload: bytes, sentence: str) -> None:
    frame = framed(payload)
    with pytest.raises(InvalidPayload, match=sentence):
        decode(frame)
    assert request_id(frame) == 5
    elsewhere = framed(payload, b'{"op":"enqueue","id":5,"v":1,')
    with pytest.raises(InvalidPayload, match=sentence):
        decode(elsewhere)
    assert request_id(elsewhere) is None


def test_what_looks_like_an_id_inside_a_spoilt_payload_is_not_taken_for_one() -> None:
    assert request_id(b'{"jobs":[{"payload":{"v":1,"id":7,"x":NaN}}],"v":1,"id":5}') is None
    assert request_id(b' { "v" : 1 , "id" : 12 , "x": NaN}') == 12
    assert request_id(b'{"v":1,"id":99999999999999999,"x":NaN}') is None


def test_a_huge_frame_that_is_not_json_is_not_searched_for_its_reason() -> None:
    pad = b'"' + b"x" * refusal.REREAD_BYTES_MAX + b'"'
    with pytest.raises(ProtocolError, match="not JSON"):
        decode(framed(b"[" + pad + b',"\\ud800"]'))


@pytest.mark.parametrize("name", ["x` - at `$.zzz", "`", "x - at `$.op`", "a`b", "x" * 10_000, "\u202e", "", "\0"])
def test_names_of_members_made_to_mislead_do_no_harm(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(enqueue(**{name: 1}))
    assert len(caught.value.message) < 150
    with pytest.raises(JobsupError):
        read(job(**{name: 1}))


def test_every_member_has_its_rule() -> None:
    kinds = [*get_args(AnyRequest), messages.NewJob, messages.Filter, messages.Step, messages.ChildJob]
    names = {field for kind in kinds for field in kind.__struct_fields__} - {"v", "id"}
    assert names == set(refusal.RULES)


def test_every_state_can_be_named() -> None:
    assert {read(request("purge", queue="q", state=state.value)).state for state in State} == set(State)  # type: ignore[union-attr]


@settings(max_examples=500)
@given(st.data())
def test_no_frame_raises_anything_but_our_errors(data: st.DataObject) -> None:
    frame = bytearray(json.dumps(data.draw(st.sampled_from(RIGHT))).encode())
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(frame)))
        cut = data.draw(st.integers(0, 6))
        frame[place : place + cut] = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"[", b'"', b"{", b"1e999", b"\\ud800"])
        )
    try:
        decode(bytes(frame))
    except JobsupError as error:
        assert error.message
        failure(request_id(bytes(frame)), error)


def test_replies_carry_the_id_and_what_was_asked_or_why_not() -> None:
    assert json.loads(reply(7, {"ids": [1]})) == {"v": 1, "id": 7, "ok": {"ids": [1]}}
    error = Busy("not now", hint="later")
    said = {"code": "busy", "message": "not now", "hint": "later"}
    assert json.loads(failure(7, error)) == {"v": 1, "id": 7, "error": said}
    assert json.loads(failure(None, error)) == {"v": 1, "id": None, "error": said}


def test_payloads_of_requests_are_checked_as_bytes() -> None:
    found = read_job(payload={"a": [1]})
    check_payload(bytes(found.payload), 1024, "emails")
    assert msgspec.json.decode(found.payload) == {"a": [1]}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (request("edit", job=1), "name something to change"),
        (request("edit", payload=1), "job: this member is missing"),
        (request("edit", job=1, tags=["a\n"]), "tags must be"),
        (request("edit", job=1, delay_ms=1, due_at_ms=1), "exclude each other"),
        (request("edit", job=1, priority=101), "priority must be an integer from -100 to 100"),
        (request("delete"), "name at least one of queue"),
        (request("delete", by="finished"), "name at least one of queue"),
        (request("delete", ids=[1], by="died"), 'by must be "enqueued" or "finished"'),
        (request("delete", tag=""), "tag must be"),
        (request("delete", key=5), "key must be at most 200 printable characters"),
        (request("delete", key="a\n"), "key must be at most 200 printable characters"),
        (request("delete", key="k" * 201), "key must be at most 200 printable characters"),
        (request("dead_delete", filter={"key": 5}), "filter.key must be at most 200 printable characters"),
        (request("dead_delete", filter={"key": "a\0"}), "filter.key must be at most 200 printable characters"),
        (request("dead_retry", filter={"key": "k" * 201}), "filter.key must be at most 200 printable characters"),
        (request("delete", key=None), "name at least one of queue"),
        (request("dead_retry", filter={"key": None}), "name at least one of"),
        (request("dead_retry", filter={"fingerprint": "XYZ"}), "fingerprint must be 16 hexadecimal digits"),
        (request("dead_retry", filter={}), "name at least one of"),
        (request("dead_retry", filter={"queue": "a"}, pace_jobs=1), "pace_jobs and pace_ms go together"),
        (request("dead_retry", filter={"queue": "a"}, canary=0), "canary must be"),
        (request("dead_retry", filter={"queue": "a"}, limit=0), "limit must be"),
        (request("dead_stop", replay=0), "replay must be"),
    ],
)
def test_edits_deletions_and_replays_that_mean_nothing_are_refused(message: dict[str, Any], said: str) -> None:
    with pytest.raises(JobsupError) as refused:
        read(message)
    assert isinstance(refused.value, UsageError | InvalidPayload)
    assert said in refused.value.message


def test_a_payload_that_is_null_is_not_one_that_is_left_out() -> None:
    given, left = read(request("edit", job=1, payload=None)), read(request("edit", job=1, priority=1))
    assert isinstance(given, messages.Edit)
    assert isinstance(left, messages.Edit)
    assert given.payload is not msgspec.UNSET
    assert bytes(given.payload) == b"null"
    assert left.payload is msgspec.UNSET
