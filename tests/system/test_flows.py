"""Flows through JSON, Python and a shell, with real processes: what runs when, what is told, what is refused."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.client import Client
from supervisor.errors import (
    InvalidFlow,
    JobsupError,
    PayloadTooLarge,
    UnknownFlow,
    UnknownQueue,
    WaitTimeout,
    WrongState,
)
from supervisor.flow import Flow, step
from tests.support.daemon import Daemon, Site, environment
from tests.support.terminal import jobsctl_on_terminal

TOML = """
[daemon]
python_path = ["../app"]
[defaults]
max_attempts = 1
[queues.q]
handler = "steps:run"
workers = 2
[queues.told]
handler = "steps:run"
redact = ["password"]
[queues.sh]
command = ["sh", "-c", "echo $JOBSUP_FLOW"]
[queues.small]
handler = "steps:run"
max_payload = "8KiB"
[queues.unique]
handler = "steps:run"
unique = { by = ["n"] }
"""
STEPS = """
import time

def run(job):
    what = job.payload.get("do") if isinstance(job.payload, dict) else None
    if what == "fail":
        raise ValueError("asked to")
    if what == "wait":
        time.sleep(600)
    if what == "add":
        for number in range(job.payload["count"]):
            job.flow.enqueue("q", {"number": number})
    if what == "list":
        return list(range(job.payload["count"]))
    if what == "large":
        return "x" * job.payload["bytes"]
    flow = job.flow
    if flow is None:
        return job.payload
    return {"step": flow.step, "results": flow.results, "states": flow.states, "context": flow.context,
            "signals": flow.signals}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("flows"), TOML, app={"steps.py": STEPS}) as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client[int]]:
    with daemon.client() as found:
        yield found


def states(client: Client[int], flow: int) -> dict[str, str]:
    return {each["name"] or str(each["id"]): each["state"] for each in client.flows.show(flow)["steps"]}


def result(client: Client[int], flow: int, name: str) -> Any:
    (found,) = [each["id"] for each in client.flows.show(flow)["steps"] if each["name"] == name]
    return client.status(found)["result"]


def told(daemon: Daemon, client: Client[int], flow: int) -> list[str]:
    """Which callbacks of a flow there are."""
    found = [client.status(each["id"])["payload"] for each in jobs_of(daemon, "told")]
    return sorted(each["flow"]["event"] for each in found if each["flow"]["id"] == flow)


def jobs_of(daemon: Daemon, queue: str) -> list[Any]:
    return daemon.ctl("list", "--queue", queue, "--limit", "0", "--json").lines


def test_steps_run_after_those_that_they_come_after_and_know_their_results(client: Client[int]) -> None:
    a, b, c = (step("q", name=name) for name in "abc")
    a.then(b, c)
    d = step("q", name="d").after(b, c)
    flow = client.flows.start(Flow(a, name="diamond", context={"x": 1}))
    assert client.flows.wait(flow, 30)["state"] == "completed"
    shown = client.flows.show(flow)
    ended = {each["name"]: each["finished_at"] for each in shown["steps"]}
    begun = {each["name"]: each["started_at"] for each in shown["steps"]}
    assert ended["a"] <= min(begun["b"], begun["c"])
    assert max(ended["b"], ended["c"]) <= begun["d"]
    found = result(client, flow, "d")
    assert d.name == "d"
    assert found["context"] == {"x": 1}
    assert found["results"]["b"]["results"]["a"]["step"] == "a"
    assert found["states"] == {"b": "completed", "c": "completed"}


def test_a_file_starts_a_flow_and_the_shell_follows_it(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text(
        json.dumps({"name": "from a file", "steps": [{"name": "a", "queue": "sh", "payload": 1, "delay": "1ms"},
                                                     {"name": "b", "queue": "sh", "after": "a"}]})
    )  # fmt: skip
    flow = int(daemon.ctl("flow", "start", file).out)
    assert daemon.ctl("wait", flow, "--timeout", "30s").out == "completed\n"
    rows = daemon.ctl("flow", "show", flow).rows
    assert [row[1:5] for row in rows] == [["a", "sh", "completed", ""], ["b", "sh", "completed", rows[0][0]]]
    assert daemon.job(int(rows[1][0]))["result"]["results"] == {"a": daemon.job(int(rows[0][0]))["result"]}
    assert daemon.ctl("flow", "list").rows[0][:3] == [str(flow), "from a file", "completed"]
    drawn = jobsctl_on_terminal("flow", "show", flow, config=daemon.config).out
    assert "from a file" in drawn
    assert drawn.index(" a ") < drawn.index(" b ")


def test_a_flow_is_drawn_with_what_comes_after_a_flow_in_it_beside_that(daemon: Daemon, client: Client[int]) -> None:
    flow = client.flows.start(
        {"steps": [{"name": "first", "queue": "q"},
                   {"name": "inner", "after": "first", "steps": [{"name": "within", "queue": "q"}, {"queue": "q"}]},
                   {"name": "then", "queue": "q", "after": "inner"},
                   {"name": "bad", "queue": "q", "payload": {"do": "fail"}, "after": "inner"}]}
    )  # fmt: skip
    client.flows.wait(flow, 30)
    lines = jobsctl_on_terminal("flow", "show", flow, config=daemon.config).out.splitlines()
    line = {
        name: next(line for line in lines if f" {name} " in line)
        for name in ("first", "inner", "within", "then", "bad")
    }
    depth = {name: found.index(name) for name, found in line.items()}
    assert depth["first"] < depth["inner"] == depth["then"] == depth["bad"] < depth["within"], lines
    assert "after inner" in line["then"]
    assert line["bad"].rstrip().endswith("  asked to"), "its error, and not that no attempt is left"
    (unnamed,) = (each["id"] for each in client.flows.show(flow)["steps"] if each["name"] is None)
    assert "".join(lines).count(f"job {unnamed} ") == 1


def test_a_wait_for_a_flow_says_that_it_was_one(client: Client[int]) -> None:
    flow = client.flows.start({"steps": [{"queue": "q", "wait_for": "ever"}]})
    with pytest.raises(WaitTimeout, match=f"^flow {flow} did not end in time"):
        client.flows.wait(flow, 0.01)


@pytest.mark.parametrize(
    ("policy", "wanted", "end"),
    [
        ("cancel", {"bad": "dead", "next": "cancelled", "last": "cancelled"}, "dead"),
        ("ignore", {"bad": "dead", "next": "completed", "last": "completed"}, "completed"),
        ("continue", {"bad": "dead", "next": "completed", "last": "completed"}, "completed"),
    ],
)
def test_a_failed_step_does_to_the_rest_what_its_edges_say(
    daemon: Daemon, client: Client[int], policy: Any, wanted: dict[str, str], end: str
) -> None:
    bad = step("q", {"do": "fail"}, name="bad")
    bad.then(step("q", name="next"), on_failure=policy).then(step("q", name="last"))
    flow = client.flows.start(
        Flow(bad, on_success=step("told"), on_complete=step("told"), on_death=step("told")), request_key=f"k-{policy}"
    )
    assert client.flows.wait(flow, 30)["state"] == end
    assert states(client, flow) == wanted
    assert told(daemon, client, flow) == sorted(["complete", "death", *(["success"] if end == "completed" else [])])
    assert client.flows.start(Flow(bad), request_key=f"k-{policy}") == flow


def test_a_condition_that_fails_or_cannot_be_computed_skips_its_step(client: Client[int]) -> None:
    a = step("q", name="a")
    for name, when in (
        ("yes", "results.a.step == 'a'"), ("no", "results.a.step == 'b'"), ("broken", "sum(results.a)"),
        ("python", "__import__(os)"),
    ):  # fmt: skip
        if name == "python":
            continue
        a.then(step("q", name=name, when=when)).then(step("q", name=f"after-{name}"))
    flow = client.flows.start(Flow(a))
    assert client.flows.wait(flow, 30)["state"] == "completed"
    found = states(client, flow)
    assert {name: found[name] for name in ("yes", "no", "broken")} == {
        "yes": "completed", "no": "skipped", "broken": "skipped",
    }  # fmt: skip
    assert all(found[f"after-{name}"] == "completed" for name in ("yes", "no", "broken"))
    reasons = {each["name"]: each["reason"] for each in client.flows.show(flow)["steps"]}
    assert "could not be computed" in reasons["broken"]


def test_a_signal_is_awaited_explained_and_may_come_first(daemon: Daemon, client: Client[int]) -> None:
    flow = client.flows.start(Flow(step("q", name="late", wait_for="go"), step("q", wait_for="end"), name="s"))
    (late,) = [each["id"] for each in client.flows.show(flow)["steps"] if each["name"] == "late"]
    assert daemon.ctl("explain", late).out == f"job {late} of q: it waits for signal go\n"
    assert client.flows.signal(flow, "early", [1])
    assert daemon.ctl("flow", "signal", flow, "go", '{"by": "ann"}').out == "sent\n"
    assert not client.flows.signal(flow, "go", "again")
    added = client.flows.add(flow, step("q", name="more", wait_for=["early", "go"]).after("late"))
    assert client.wait(added["more"], 30)["state"] == "completed"
    assert result(client, flow, "more")["signals"] == {"early": [1], "go": {"by": "ann"}}
    client.flows.signal(flow, "end")
    assert client.flows.wait(flow, 30)["state"] == "completed"
    with pytest.raises(WrongState):
        client.flows.signal(flow, "after-the-end")


def test_a_signal_that_no_step_waits_for_is_kept_and_said_to_be_one(daemon: Daemon, client: Client[int]) -> None:
    flow = client.flows.start(Flow(step("q", name="a", wait_for=["approved", "approved-late"])))
    for name, said in (("aproved", "; did you mean approved?"), ("zzz", "")):
        ran = daemon.ctl("flow", "signal", flow, name)
        assert (ran.out, ran.status) == ("sent\n", 0)
        assert (
            f"no step of flow {flow} waits for signal {name}: it is kept for steps that are added later{said}\n"
            in ran.err
        )
    (told,) = daemon.ctl("flow", "signal", flow, "approved", "--json").lines
    assert told == {"id": flow, "signal": "approved", "repeated": False, "awaited": True, "meant": None}
    assert daemon.ctl("flow", "signal", flow, "approved").err == "", "it had come, and was awaited"


def test_a_flow_is_explained_by_what_goes_on_and_what_is_waited_for(daemon: Daemon, client: Client[int]) -> None:
    daemon.ctl("pause", "q")
    flow = client.flows.start(
        Flow(step("q", name="a"), step("q", name="b", wait_for="go"), step("q", name="c").after("a"), name="order"),
        open=True,
    )
    a, b = (each["id"] for each in client.flows.show(flow)["steps"] if each["name"] in ("a", "b"))
    told = f"flow {flow} (order): running, 0 of 3 jobs have ended; a (job {a}) is queued"
    also = [
        f"b (job {b}) waits for signal go: jobsctl flow signal {flow} go",
        f"it is open, and ends after jobsctl flow close {flow}",
        f"job {a} of q: queue q is paused; jobsctl resume q lets it go on",
    ]
    assert daemon.ctl("explain", flow).out.splitlines() == [told, *(f"  also: {each}" for each in also)]
    (found,) = daemon.ctl("explain", flow, "--json").lines
    assert (found["sentence"], found["state"], found["queue"]) == (told, "running", None)
    assert [each["kind"] for each in found["reasons"]] == ["goes_on", "signals", "open", "paused"]
    assert found["reasons"][-1]["job"] == a
    assert client.explain(flow) == found
    waited = daemon.ctl("wait", flow, "--timeout", "0s")
    assert (waited.status, told in waited.err) == (75, True)
    daemon.ctl("resume", "q")
    client.flows.signal(flow, "go")
    client.flows.close(flow)
    client.flows.wait(flow, 30)
    done = f"flow {flow} (order): completed, 3 of 3 jobs have ended\n"
    assert daemon.ctl("explain", flow).out == done
    daemon.stop()
    assert daemon.ctl("explain", flow).out == done, "without a daemon, too"
    assert (daemon.ctl("wait", flow).out, daemon.ctl("wait", flow).status) == ("completed\n", 0)
    assert daemon.ctl("explain", 2**40).status == 3
    daemon.start()


def test_a_flow_in_a_flow_is_explained_by_the_signals_of_the_whole(daemon: Daemon, client: Client[int]) -> None:
    whole = client.flows.start({"steps": [{"name": "in", "steps": [{"queue": "q", "name": "x", "wait_for": "go"}]}]})
    inside, x = (next(e["id"] for e in client.flows.show(whole)["steps"] if e["name"] == name) for name in ("in", "x"))
    assert {each["name"]: each["state"] for each in client.flows.show(inside)["steps"]} == {
        "x": "blocked",
        "go": "waiting",
    }
    for flow in (whole, inside):
        assert f"x (job {x}) waits for signal go" in daemon.ctl("explain", flow).out
    client.flows.signal(inside, "go")
    client.flows.wait(whole, 30)


@pytest.mark.parametrize(
    ("payload", "said"), [("x" * 70_000, "has 70002 bytes, the limit is 65536"), ("\0", "holds a NUL")]
)
def test_what_a_signal_may_not_bring_is_refused_by_its_name(client: Client[int], payload: Any, said: str) -> None:
    flow = client.flows.start(Flow(step("q", name="a", wait_for="go")))
    with pytest.raises(JobsupError, match=f"^the payload of signal go {said}"):
        client.request("flow_signal", flow=flow, signal="go", payload=payload)


def test_a_flow_takes_so_many_different_signals(client: Client[int]) -> None:
    flow = client.flows.start(Flow(step("q", wait_for="end")))
    for number in range(999):
        client.flows.signal(flow, f"s{number}")
    with pytest.raises(WrongState, match="1,001 different signals"):
        client.flows.signal(flow, "one-more")
    assert client.flows.signal(flow, "end")
    assert client.flows.wait(flow, 30)["state"] == "completed"


def test_what_a_queue_hides_is_hidden_in_the_context_too(daemon: Daemon, client: Client[int]) -> None:
    """Whoever may look is shown nowhere what a step is told all the same."""
    given = {"password": "s3cret", "to": "x"}
    flow = client.flows.start(Flow(step("q", name="a"), context=given))
    shown = [client.flows.wait(flow, 30), client.flows.show(flow), next(iter(client.flows.list()))]
    shown += [daemon.ctl("flow", "show", flow, "--json").json, daemon.ctl("wait", flow, "--json").json]
    assert [each["context"] for each in shown] == [{"password": "[redacted]", "to": "x"}] * 5
    assert result(client, flow, "a")["context"] == given


def test_jobs_add_to_their_own_batch_which_ends_after_them(daemon: Daemon, client: Client[int]) -> None:
    flow = client.flows.start(Flow(step("q", {"do": "add", "count": 20}), on_success=step("told")))
    assert client.flows.wait(flow, 30)["jobs"]["completed"] == 21
    assert told(daemon, client, flow) == ["success"]


def test_an_open_batch_is_filled_in_groups_and_ends_when_it_is_closed(daemon: Daemon, client: Client[int]) -> None:
    flow = client.flows.start(Flow(name="open", on_success=step("told", {"mine": 1})), open=True)
    for _ in range(3):
        client.flows.add(flow, Flow(*[step("q") for _ in range(50)]))
    shown = client.flows.show(flow)
    assert (shown["state"], shown["open"]) == ("running", True)
    twice = [client.flows.add(flow, step("q", name="named"), request_key="add-once") for _ in range(2)]
    assert twice[0] == twice[1]
    client.flows.close(flow)
    assert client.flows.wait(flow, 30)["jobs"]["completed"] == 151
    assert told(daemon, client, flow) == ["success"]
    with pytest.raises(WrongState):
        client.flows.add(flow, step("q"))


def test_flows_in_flows_end_before_what_comes_after_them(daemon: Daemon, client: Client[int]) -> None:
    inner = Flow(step("q", name="x").then(step("q", name="y")), name="inner", on_success=step("told"))
    first = step("q", name="first")
    first.then(inner).then(step("q", name="end"))
    flow = client.flows.start(Flow(first))
    assert client.flows.wait(flow, 30)["state"] == "completed"
    shown = {each["name"]: each for each in client.flows.show(flow)["steps"]}
    assert shown["first"]["finished_at"] <= shown["x"]["started_at"]
    assert shown["inner"]["finished_at"] <= shown["end"]["started_at"]
    assert told(daemon, client, shown["inner"]["id"]) == ["success"]


def test_a_flow_is_cancelled_with_what_runs(daemon: Daemon, client: Client[int]) -> None:
    hangs = step("q", {"do": "wait"}, name="hangs")
    hangs.then(step("q", name="next"))
    flow = client.flows.start(Flow(hangs, Flow(step("q", name="in", wait_for="never"), name="inner")))
    daemon.wait_for(lambda: states(client, flow)["hangs"] == "running")
    client.flows.cancel(flow)
    assert client.flows.wait(flow, 30)["state"] == "cancelled"
    assert set(states(client, flow).values()) <= {"cancelled", "waiting"}
    with pytest.raises(WrongState):
        client.flows.cancel(flow)


def test_a_flow_runs_again_from_where_it_failed_and_from_a_step(daemon: Daemon, client: Client[int]) -> None:
    a = step("q", name="a")
    a.then(step("q", {"do": "fail"}, name="b")).then(step("q", name="c"))
    flow = client.flows.start(Flow(a, on_success=step("told"), on_complete=step("told")))
    assert client.flows.wait(flow, 30)["state"] == "dead"
    (b,) = [each["id"] for each in client.flows.show(flow)["steps"] if each["name"] == "b"]
    client.edit(b, payload={})
    assert client.flows.retry(flow) == 2
    assert client.flows.wait(flow, 30)["state"] == "completed"
    first = client.status(b)["finished_at"]
    assert daemon.ctl("flow", "retry", flow, "--from", "b").out == "2 steps run again\n"
    assert client.flows.wait(flow, 30)["state"] == "completed"
    assert client.status(b)["finished_at"] > first
    assert told(daemon, client, flow) == ["complete", "success"]


def test_a_condition_that_takes_too_much_holds_up_nobody(daemon: Daemon, client: Client[int]) -> None:
    keeper = next(node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper")
    large = step("q", {"do": "list", "count": 100_000}, name="large")
    bombs = {
        "doubled": "context.x" + "|[@,@][]" * 12,
        "much": "length(context.many[?@ > `0`]) > `0`",
        "large": "length(results.large[?@ > `0`]) > `0`",
    }  # fmt: skip
    for name, when in bombs.items():
        large.then(step("q", name=f"if-{name}", when=when)).then(step("q", name=f"after-{name}"))
    flow = client.flows.start(Flow(large, context={"x": [1], "many": list(range(9_000))}))
    others = client.enqueue_many("q", [None] * 20)
    assert client.flows.wait(flow, 30)["state"] == "completed"
    shown = {each["name"]: each for each in client.flows.show(flow)["steps"]}
    assert {name: shown[f"if-{name}"]["state"] for name in bombs} == dict.fromkeys(bombs, "skipped")
    assert {name: shown[f"after-{name}"]["state"] for name in bombs} == dict.fromkeys(bombs, "completed")
    assert "too much work" in shown["if-doubled"]["reason"]
    assert "too much work" in shown["if-much"]["reason"]
    assert "bytes, the limit is" in shown["if-large"]["reason"]
    for each in others:
        client.wait(each, 30)
    assert keeper == next(node["pid"] for node in client.request("tree")["tree"] if node["role"] == "keeper")


def test_results_too_large_to_feed_on_end_the_step_and_say_so(client: Client[int]) -> None:
    parents = [step("q", {"do": "large", "bytes": 900_000}, name=name) for name in "ab"]
    flow = client.flows.start(Flow(step("q", name="c").after(*parents)))
    assert client.flows.wait(flow, 30)["state"] == "dead"
    (c,) = [each for each in client.flows.show(flow)["steps"] if each["name"] == "c"]
    assert (c["state"], c["reason"]) == ("dead", "results_too_large")
    fits = [step("q", {"do": "large", "bytes": 500_000}, name=name) for name in "ab"]
    flow = client.flows.start(Flow(step("q", name="c").after(*fits)))
    assert client.flows.wait(flow, 30)["state"] == "completed"
    assert len(result(client, flow, "c")["results"]["a"]) == 500_000


REFUSED: dict[str, tuple[dict[str, Any], type[JobsupError], str]] = {
    "a ring": (
        {"steps": [{"name": "a", "queue": "q", "after": ["b"]}, {"name": "b", "queue": "q", "after": ["a"]}]},
        InvalidFlow, "in a ring: a after b after a",
    ),
    "itself": ({"steps": [{"name": "a", "queue": "q", "after": ["a"]}]}, InvalidFlow, "in a ring: a after a"),
    "a missing step": ({"steps": [{"name": "fetch", "queue": "q"}, {"queue": "q", "after": ["fetsh"]}]}, InvalidFlow,
                       "no step fetsh"),
    "a name twice": ({"steps": [{"name": "a", "queue": "q"}] * 2}, InvalidFlow, "two steps have this name"),
    "an unknown policy": ({"steps": [{"name": "a", "queue": "q"}, {"queue": "q", "after": {"a": "hope"}}]}, JobsupError,
                          "after a: 'hope' is no policy; there are cancel, ignore and continue"),
    "a policy like a known one": (
        {"steps": [{"name": "a", "queue": "q"}, {"name": "b", "queue": "q", "after": {"a": "ignor"}}]}, JobsupError,
        "step b: after a: 'ignor' is no policy; there are cancel, ignore and continue did you mean ignore?"),
    "a policy that is no text": ({"steps": [{"queue": "q", "after": {"a": [1]}}]}, JobsupError, "[1] is no policy"),
    "a number that is none": ({"steps": [{"queue": "q", "payload": float("nan")}]}, JobsupError,
                              "steps[0]: the payload holds NaN or Infinity, which JSON does not have send null"),
    "no queue": ({"steps": [{"name": "a"}]}, InvalidFlow, "names no queue"),
    "an unknown queue": ({"steps": [{"queue": "nowhere"}]}, UnknownQueue, "nowhere"),
    "a callback queue that is not there": ({"steps": [], "on_success": {"queue": "nowhere"}}, UnknownQueue, "nowhere"),
    "a callback with a delay": ({"steps": [], "on_success": {"queue": "q", "delay": "1s"}}, InvalidFlow, "no delay"),
    "a condition that reaches for Python": (
        {"steps": [{"queue": "q", "when": "__import__('os').system('id')"}]}, InvalidFlow, "when is no expression"),
    "a condition of what it does not come after": (
        {"steps": [{"name": "a", "queue": "q"}, {"name": "b", "queue": "q", "after": ["a"]},
                   {"name": "c", "queue": "q", "after": ["b"], "when": "results.b && results.a.ok"}]},
        InvalidFlow, "step c: when speaks of results.a, but it does not come after a"),
    "a condition of a signal that it does not wait for": (
        {"steps": [{"name": "a", "queue": "q", "when": "signals.go"}]}, InvalidFlow, "does not wait for signal go"),
    "a condition that multiplies what it reads": (
        {"context": [1], "steps": [{"queue": "q", "when": "context" + f"|[{','.join('@' * 16)}][]" * 6}]},
        InvalidFlow, "it can make more than 5,000 times of what it reads"),
    "conditions that are too long in all": (
        {"steps": [{"queue": "q", "when": f"context.a{n} && " + "context.x || " * 70 + "x"} for n in range(300)]},
        InvalidFlow, "the conditions have"),
    "a condition that is nested": ({"steps": [{"queue": "q", "when": "(" * 900}]}, InvalidFlow, "brackets"),
    "a step with callbacks": ({"steps": [{"queue": "q", "on_death": {"queue": "q"}}]}, InvalidFlow, "no callbacks"),
    "an unknown key": ({"steps": [], "stepz": []}, InvalidFlow, "stepz"),
    "an unknown key like a known one": ({"stesp": []}, InvalidFlow, "did you mean steps?"),
    "an unknown option": ({"steps": [{"queue": "q", "dalay": "1s"}]}, JobsupError, "did you mean delay?"),
    "an unknown member": ({"steps": [{"name": "a", "queu": "q"}]}, JobsupError,
                          "step a: queu is no member of a step; there are queue, payload, name, after, when"),
    "a member like a known one": ({"steps": [{"queu": "q"}]}, JobsupError, "did you mean queue?"),
    "a member of a flow in a flow": ({"steps": [{"afetr": "a", "steps": []}]}, JobsupError, "did you mean after?"),
    "an idempotency key": ({"steps": [{"queue": "q", "idempotency_key": "a"}]}, InvalidFlow, "idempotency_key"),
    "an unknown option of a callback": (
        {"steps": [], "on_death": {"queue": "q", "taks": "a"}}, JobsupError, "did you mean task?"),
    "steps that are no list": ({"steps": {"a": 1}}, InvalidFlow, "must be a list"),
    "an empty flow in a flow": ({"steps": [{"name": "a", "steps": []}]}, InvalidFlow, "at least one step"),
    "a flow in a flow with a queue": ({"steps": [{"queue": "q", "steps": [{"queue": "q"}]}]}, InvalidFlow, "queue"),
    "a payload that is too large": ({"steps": [{"queue": "small", "payload": "x" * 9_000}]}, PayloadTooLarge, "8,192"),
    "a callback that is too large": ({"steps": [], "on_success": {"queue": "small", "payload": "x" * 5_000}},
                                     PayloadTooLarge, "on_success"),
    "a large context": ({"steps": [], "context": "x" * 70_000}, PayloadTooLarge, "context"),
    "signals twice": ({"steps": [{"queue": "q", "wait_for": ["a", "a"]}]}, InvalidFlow, "different signals"),
    "two that count as the same": ({"steps": [{"queue": "unique", "payload": {"n": 1}}] * 2}, JobsupError, "the same"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_flow_is_refused_as_a_whole(client: Client[int], name: str) -> None:
    given, error, said = REFUSED[name]
    before = client.request("status")["queues"]
    with pytest.raises(error, match=r"(?s).*") as refused:
        client.flows.start(given)
    assert said in f"{refused.value.message} {refused.value.hint}"
    after = client.request("status")["queues"]
    assert {queue: found["blocked"] for queue, found in after.items()} == {
        queue: found["blocked"] for queue, found in before.items()
    }


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ('{"a":1e999}', "holds a number beyond"), ("[" * 101 + "]" * 101, "is nested deeper"),
        ("9" * 401, "holds a number of more"), (r'"\u0000"', "holds a NUL"),
    ],
)  # fmt: skip
def test_a_context_that_some_reader_could_not_hold_is_refused(daemon: Daemon, context: str, said: str) -> None:
    """As a payload is. Nobody who has taken one in could show its flow, or run a step of it."""
    request = f'{{"v":1,"id":1,"op":"flow_start","key":"k","steps":[{{"queue":"q"}}],"context":{context}}}'
    with socket.socket(socket.AF_UNIX) as sock, sock.makefile("rb") as replies:
        sock.connect(str(daemon.socket))
        sock.sendall(struct.pack(">I", len(request)) + request.encode())
        (size,) = struct.unpack(">I", replies.read(4))
        error = json.loads(replies.read(size))["error"]
    assert error["code"] == "invalid_payload"
    assert error["message"].startswith(f"the context {said}")


def test_too_many_steps_and_edges_are_refused_quickly(client: Client[int]) -> None:
    with pytest.raises(PayloadTooLarge, match=r"10,000 steps"):
        client.flows.start({"steps": [{"queue": "q"}] * 10_001})
    names = [f"s{number}" for number in range(100_000)]
    begun = time.monotonic()
    with pytest.raises(InvalidFlow, match=r"comes after 100,000 steps, the limit is 10,000"):
        client.flows.start({"steps": [{"queue": "q", "after": names}]})
    assert time.monotonic() - begun < 10
    deep: dict[str, Any] = {"queue": "q"}
    for _ in range(12):
        deep = {"steps": [deep]}
    with pytest.raises(InvalidFlow, match="nested"):
        client.flows.start(deep)


def test_flows_that_are_not_there_are_unknown(daemon: Daemon, client: Client[int]) -> None:
    for ask in (client.flows.show, client.flows.cancel, client.flows.retry, client.flows.close):
        with pytest.raises(UnknownFlow):
            ask(2**52)
    with pytest.raises(UnknownFlow):
        client.flows.add(2**52, step("q"))
    assert daemon.ctl("flow", "show", 2**52).status == 3
    assert daemon.ctl("flow", "start", "-", stdin="no json").status == 2


def test_errors_about_flows_lead_to_what_shows_them(daemon: Daemon, client: Client[int]) -> None:
    flow = client.flows.start(Flow(step("q", name="only")))
    client.flows.wait(flow, 30)
    look = f"jobsctl flow show {flow}"
    for command in (["status", flow], ["flow", "cancel", flow], ["flow", "signal", flow, "go"],
                    ["flow", "retry", flow, "--from", "onyl"]):  # fmt: skip
        done = daemon.ctl(*command)
        assert (done.status != 0, look in done.err) == (True, True), done.err
    assert "in a shell" in daemon.ctl("flow", "signal", flow, "go", "{by: ann}").err


def test_an_id_of_the_other_kind_is_told_from_one_that_nobody_has(daemon: Daemon, client: Client[int]) -> None:
    job = client.enqueue("q", {})
    flow = client.flows.start(Flow(step("q", name="only")))
    client.flows.wait(flow, 30)
    inside = client.flows.show(flow)["steps"][0]["id"]
    for command, instead in ((["cancel", flow], "cancel"), (["retry", flow], "retry"),
                             (["edit", flow, "--priority", 1], "show")):  # fmt: skip
        done = daemon.ctl(*command)
        assert (done.status, f"{flow} is a flow, and no job" in done.err) == (3, True), done.err
        assert f"jobsctl flow {instead} {flow}" in done.err
    for command in (["retry"], ["cancel"], ["show"], ["close"], ["signal", "go"]):
        of_job = daemon.ctl("flow", command[0], job, *command[1:])
        assert (of_job.status, f"{job} is a job, and no flow" in of_job.err) == (3, True), of_job.err
        assert f"jobsctl status {job}" in of_job.err
        of_step = daemon.ctl("flow", command[0], inside, *command[1:])
        assert (of_step.status, f"{inside} is a step of flow {flow}, and no flow" in of_step.err) == (3, True)
        assert f"jobsctl flow show {flow}" in of_step.err
    several = daemon.ctl("cancel", flow, 2**52)
    assert (several.status, f"{flow}: {flow} is a flow" in several.err) == (3, True), several.err


def test_a_flow_that_is_started_without_a_daemon_runs_when_one_comes(tmp_path: Path) -> None:
    site = Site(tmp_path, TOML, app={"steps.py": STEPS})
    init(site)
    with site.client() as client:
        flow = client.flows.start(Flow(step("q", name="a").then(step("q", name="b")), on_success=step("told")))
        assert states(client, flow) == {"a": "queued", "b": "blocked"}
    assert f"jobsctl flow show {flow}" in site.ctl("status", flow).err
    said = f"flow {flow}: running, 0 of 2 jobs have ended; a (job {flow + 1}) is queued"
    assert site.ctl("explain", flow).out.splitlines() == [said, "  also: no daemon runs"]
    assert site.ctl("wait", flow, "--timeout", "0s").status == 4
    with Daemon(tmp_path, TOML, app={"steps.py": STEPS}) as daemon, daemon.client() as client:
        assert client.flows.wait(flow, 30)["state"] == "completed"


def test_a_flow_is_kept_as_a_whole_and_deleted_as_a_whole(tmp_path: Path) -> None:
    toml = TOML.replace("max_attempts = 1", 'max_attempts = 1\nretention = { completed = "1s" }')
    with Daemon(tmp_path, toml, app={"steps.py": STEPS}) as daemon, daemon.client() as client:
        done = step("q", name="done")
        flow = client.flows.start(Flow(done, step("q", name="waits", wait_for="go")))
        (first,) = [each["id"] for each in client.flows.show(flow)["steps"] if each["name"] == "done"]
        client.wait(first, 30)
        gone = client.enqueue("q")
        daemon.wait_for(lambda: unknown(client, gone), timeout=30)
        assert client.status(first)["state"] == "completed"
        assert client.request("delete", ids=[first])["count"] == 0
        assert daemon.ctl("delete", first, "--dry-run").out == "0\n"
        client.flows.signal(flow, "go")
        client.flows.wait(flow, 30)
        daemon.wait_for(lambda: unknown(client, first), timeout=90)


def init(site: Site) -> None:
    command = [sys.executable, "-m", "supervisor.cli.jobsupd", "--one-shot", "--init", "-c", str(site.config)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, env=environment())


def unknown(client: Client[int], job_id: int) -> bool:
    try:
        client.status(job_id)
    except JobsupError:
        return True
    return False
