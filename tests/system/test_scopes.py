"""Scopes of one database never see each other: every operation and every command, from every side.

Three instances with the same queues, keys, unique jobs and request keys: the main file, `shop`, and `blog`. What `shop`
has is looked for from the other two, and must not be found, and must be unchanged when they have tried everything.
"""

from __future__ import annotations

import json
import os
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from supervisor.client import Client
from supervisor.errors import Denied, JobsupError, NotRunning, UnknownJob, UnknownQueue
from supervisor.keeper.scope import OF_THE_DAEMON, PASSAGES
from supervisor.wire import messages
from tests.architecture.test_docs import COMMANDS
from tests.service.test_client_protocol import Scratch
from tests.support.daemon import Daemon, Ran, jobsctl
from tests.support.waiting import opened, until

SECRET = "SECRET"
NOBODY = 2**50
"""An id that no job has."""
GROUP = "the-same-request"
DAY_MS = 86_400_000

HANDLERS = """
import os
def told(job):
    return job.payload["job"]["queue"]
def run(job):
    what = job.payload["do"]
    if what == "fail":
        raise ValueError(job.payload["said"])
    if what == "hold":
        os.close(os.open(job.payload["fifo"], os.O_RDONLY))
    if what == "follow":
        job.enqueue(job.payload["to"], {"do": "tell"})
    if what == "client":
        from supervisor.client import Client
        with Client() as client:
            return client.enqueue("later", {"do": "tell"}, delay="1h")
    return [job.queue, os.environ["JOBSUP_SOCKET"], job.payload.get("said")]
"""
TABLES = """
[defaults]
workers = 1
max_attempts = 1
[queues.emails]
handler = "tasks:run"
workers = 2
[queues.later]
handler = "tasks:run"
[queues."tenant_*"]
handler = "tasks:run"
[queues.ordered]
handler = "tasks:run"
ordered = true
[queues.once]
handler = "tasks:run"
unique = { across_queues = true }
[queues.limited]
handler = "tasks:run"
limits = ["api"]
workers = 2
[limits.api]
concurrency = 1
[queues.scaled]
handler = "tasks:run"
workers = { min = 1, max = 2 }
[queues.calls]
handler = "tasks:run"
on_dead = "called"
[queues.called]
handler = "tasks:told"
[schedules.nightly]
queue = "later"
every = "1h"
[queues.pulled]
pull = true
[queues.drawn]
[pools.common]
handler = "tasks:run"
sources = ["drawn"]
"""
MAIN = '[daemon]\npython_path = ["../app"]\n' + TABLES
SCOPE = '[daemon]\nscope_of = "../queues.toml"\n' + TABLES
NAMES = ("shop", "blog")


class World(NamedTuple):
    """The daemon, and what `shop` has: its jobs by what they are, and what they looked like before anybody tried."""

    daemon: Daemon
    jobs: dict[str, int]
    fifo: Path

    def config(self, scope: str) -> Path:
        return self.daemon.path / "etc" / scope / "queues.toml"

    def client(self, scope: str) -> Client[int]:
        return Client(self.config(scope), timeout=20)

    def ctl(self, scope: str, *args: object) -> Ran:
        return jobsctl(*args, config=self.config(scope), cwd=self.daemon.path)

    def stand(self) -> list[Any]:
        """All that shop has, as shop sees it."""
        with self.client("shop") as client:
            found = [client.status(job_id) for job_id in sorted(self.jobs.values())]
            plans = client.request("cron_list")["schedules"]
            return [found, client.status()["queues"], [(plan["name"], plan["queue"], plan["paused"]) for plan in plans]]


def write(path: Path, scopes: tuple[str, ...] = NAMES) -> None:
    """The files of a daemon with these scopes."""
    tables = "".join(f'[scopes.{name}]\nconfig = "{name}/queues.toml"\n' for name in scopes)
    (path / "etc" / "queues.toml").write_text(MAIN + tables)
    for name in scopes:
        (path / "etc" / name).mkdir(exist_ok=True)
        (path / "etc" / name / "queues.toml").write_text(SCOPE)


def start(path: Path) -> Daemon:
    daemon = Daemon(path, MAIN, app={"tasks.py": HANDLERS})
    write(path)
    return daemon


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path = tmp_path_factory.mktemp("world")
    with start(path) as daemon:
        fifo = path / "fifo"
        os.mkfifo(fifo)
        yield World(daemon, populate(daemon, fifo), fifo)
        until(lambda: opened(fifo), what="the end of the job that holds")


def populate(daemon: Daemon, fifo: Path) -> dict[str, int]:
    """A job of each kind in shop, each with the secret in it."""
    world = World(daemon, {}, fifo)
    with world.client("shop") as client:
        told = {"do": "tell", "said": SECRET}
        client.request("pause", queue="later")
        made = {
            "completed": client.enqueue("emails", told, tags=[SECRET], request_key=GROUP),
            "dead": client.enqueue("emails", {"do": "fail", "said": SECRET}, key=SECRET),
            "running": client.enqueue("emails", {"do": "hold", "fifo": str(fifo), "said": SECRET}),
            "scheduled": client.enqueue("emails", told, delay="1h"),
            "queued": client.enqueue("later", told),
            "pattern": client.enqueue("tenant_a", told),
            "holds a key": client.enqueue("ordered", {"do": "fail", "said": SECRET}, key="k"),
            "held": client.enqueue("ordered", told, key="k"),
            "unique": client.enqueue("once", {"do": "tell"}, delay="1h"),
            "drawn": client.enqueue("drawn", told),
            "pulled": client.enqueue("pulled", told),
        }
        for kind in ("completed", "dead", "pattern", "holds a key", "drawn"):
            client.wait(made[kind], timeout=30)
        until(lambda: client.status(made["running"])["worker"], what="a job that runs")
        client.request("fetch", queue="pulled", lease_ms=DAY_MS, consumer=SECRET, key=GROUP)
        added = {"queue": "emails", "every": "1h", "payload": SECRET, "tags": [SECRET]}
        client.request("cron_add", name="secret", schedule=added)
        client.request("dead_retry", filter={"queue": "later", "text": SECRET}, canary=1)
    return made


@pytest.fixture(params=["", "blog"], ids=["from the main socket", "from blog"])
def asker(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def clean(found: Any, world: World) -> None:
    """Nothing that was answered is of shop."""
    text = json.dumps(found) if not isinstance(found, str) else found
    assert SECRET not in text
    for node in find(found):
        if node.get("code") != "unknown_job":
            assert not {node.get("id"), node.get("job_id")} & set(world.jobs.values()), node


def find(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from find(each)
    elif isinstance(value, list):
        for each in value:
            yield from find(each)


def refusal(client: Client[int], op: str, **members: Any) -> tuple[str, str, str | None]:
    with pytest.raises(JobsupError) as caught:
        client.request(op, **members)
    return caught.value.code, caught.value.message, caught.value.hint


# -- the operations of the protocol: one probe each; each gets a client of another scope --------------------------


def as_if_there_were_none(client: Client[int], world: World, op: str, **members: Any) -> None:
    """The answer about a job of shop is the one about a job that does not exist."""
    unknown = refusal(client, op, job=NOBODY, **members)
    assert unknown[0] == "unknown_job"
    for job_id in world.jobs.values():
        code, message, hint = refusal(client, op, job=job_id, **members)
        assert (code, message.replace(str(job_id), str(NOBODY)), hint) == unknown


def none_of_them(client: Client[int], world: World, op: str, **members: Any) -> None:
    ids = sorted(world.jobs.values())
    found = client.request(op, ids=[*ids, NOBODY], **members)
    assert found["done"] == []
    assert [(each["id"], each["code"]) for each in found["failed"]] == [(i, "unknown_job") for i in [*ids, NOBODY]]
    assert len({each["message"].replace(str(each["id"]), "") for each in found["failed"]}) == 1


def no_such_queue(client: Client[int], op: str, member: str = "queue", **members: Any) -> None:
    for name in ("shop/emails", "blog/emails", "/emails", "shop/", "shop/tenant_a", "../shop/emails"):
        assert refusal(client, op, **{member: name}, **members)[0] == "unknown_queue", name


def probe_enqueue(client: Client[int], world: World) -> None:
    no_such_queue(client, "enqueue", key="a", jobs=[{"payload": 1}])
    same = client.insert("emails", [{"payload": {"do": "tell"}}], request_key=GROUP)
    assert not same["repeated"], "the same request key is another request here"
    assert not set(same["ids"]) & set(world.jobs.values())
    again = client.insert("emails", [{"payload": {"do": "tell"}}], request_key=GROUP)
    assert (again["ids"], again["repeated"]) == (same["ids"], True)
    once = client.insert("once", [{"payload": {"do": "tell"}, "delay_ms": 3_600_000}], request_key="once")
    assert not once["existing"], "a unique job of another scope is not in the way"
    again = client.insert("once", [{"payload": {"do": "tell"}}], request_key="once-more")
    assert again["existing"] == once["ids"]


def probe_fetch(client: Client[int], world: World) -> None:
    no_such_queue(client, "fetch")
    assert client.request("fetch", queue="pulled", key=GROUP)["jobs"] == [], "the same key is another fetch here"
    own = client.enqueue("pulled", 1)
    (job,) = client.fetch("pulled")
    assert (job["id"], job["queue"]) == (own, "pulled")
    client.ack(own, job["token"])


def tokens(world: World) -> list[int]:
    """What shop has leased."""
    with world.client("shop") as shop:
        found = [each["token"] for each in shop.consumers()]
        assert found
        return found


def stale(client: Client[int], world: World, op: str, **members: Any) -> None:
    """A lease of shop is one that is over."""
    over = refusal(client, op, token=NOBODY, **members)
    assert over[0] == "stale"
    for token in tokens(world):
        code, message, hint = refusal(client, op, token=token, **members)
        assert (code, message.replace(str(token), str(NOBODY)), hint) == over


def probe_extend(client: Client[int], world: World) -> None:
    stale(client, world, "extend")


def probe_release(client: Client[int], world: World) -> None:
    stale(client, world, "release")


def probe_ack(client: Client[int], world: World) -> None:
    for token in (*tokens(world), NOBODY):
        as_if_there_were_none(client, world, "ack", token=token)
    no_such_queue_with_ack(client)


def no_such_queue_with_ack(client: Client[int]) -> None:
    """What comes along goes nowhere else either."""
    own = client.enqueue("pulled", 1)
    (job,) = client.fetch("pulled")
    for name in ("shop/emails", "blog/emails", "/emails"):
        code, _, _ = refusal(client, "ack", job=own, token=job["token"], enqueue=[{"queue": name}])
        assert code == "unknown_queue", name
    client.ack(own, job["token"])


def probe_fail(client: Client[int], world: World) -> None:
    for token in (*tokens(world), NOBODY):
        as_if_there_were_none(client, world, "fail", token=token, message="no")


def probe_consumers(client: Client[int], world: World) -> None:
    assert client.request("consumers") == {"consumers": []}


def probe_hello(client: Client[int], world: World) -> None:
    names = client.request("hello")["queues"]
    assert names == sorted(
        ["emails", "later", "tenant_*", "ordered", "once", "limited", "drawn", "scaled", "calls", "called", "pulled"]
    )


def probe_job(client: Client[int], world: World) -> None:
    as_if_there_were_none(client, world, "job")


def probe_explain(client: Client[int], world: World) -> None:
    as_if_there_were_none(client, world, "explain")


def probe_wait(client: Client[int], world: World) -> None:
    as_if_there_were_none(client, world, "wait", timeout_ms=10_000)


def probe_status(client: Client[int], world: World) -> None:
    queues = client.request("status")["queues"]
    assert not any("/" in name for name in queues)
    assert "tenant_a" not in queues
    assert (queues["emails"]["dead"], queues["emails"]["running"], queues["later"]["queued"]) == (0, 0, 0)
    assert (queues["later"]["paused"], queues["later"]["oldest_queued_s"]) == (False, None)
    assert (queues["drawn"]["completed"], queues["drawn"]["pool"]) == (0, "common")
    plans = client.request("status")["schedules"]
    assert (plans["count"], plans["next"]) == (1, "nightly")


def probe_workers(client: Client[int], world: World) -> None:
    workers = client.request("workers")["workers"]
    assert {worker["queue"] for worker in workers} == {
        "emails", "later", "tenant_*", "ordered", "once", "limited", "common", "scaled", "calls", "called"
    }  # fmt: skip
    with world.client("shop") as shop:
        assert not {each["pid"] for each in workers} & {each["pid"] for each in shop.request("workers")["workers"]}


def probe_tree(client: Client[int], world: World) -> None:
    """The processes; over the main socket those of all scopes, as whoever runs the daemon looks after all."""
    nodes = client.request("tree")["tree"]
    internal = [node["path"] for node in nodes if "shop/" in json.dumps(node)]
    assert bool(internal) is (client.request("hello")["scope"] is None)
    assert {node["role"] for node in nodes} == {"master", "keeper", "foreman", "worker"}
    parents = {node["path"] for node in nodes}
    assert all(node["parent"] in parents for node in nodes if node["role"] == "worker")


def no_flow_of_them(client: Client[int], world: World, op: str, **how: Any) -> None:
    """A flow of another scope is no job, and what it is instead is not told."""
    flow = flow_of_shop(world)
    told = {"id": flow, "code": "unknown_job", "message": f"there is no job {flow}"}
    assert client.request(op, ids=[flow], **how) == {"done": [], "failed": [told]}


def probe_cancel(client: Client[int], world: World) -> None:
    none_of_them(client, world, "cancel")
    no_flow_of_them(client, world, "cancel")


def probe_retry(client: Client[int], world: World) -> None:
    none_of_them(client, world, "retry", force=True)
    no_flow_of_them(client, world, "retry")


def probe_pause(client: Client[int], world: World) -> None:
    no_such_queue(client, "pause")
    assert client.request("pause", queue="drawn") == {"queue": "drawn", "paused": True}
    client.request("resume", queue="drawn")


def probe_resume(client: Client[int], world: World) -> None:
    no_such_queue(client, "resume")
    assert client.request("resume", queue="later") == {"queue": "later", "paused": False}


def probe_key(client: Client[int], world: World) -> None:
    no_such_queue(client, "key", job_key="k", action="free")
    code, message, _ = refusal(client, "key", queue="ordered", job_key="k", action="free")
    assert (code, "/" in message) == ("wrong_state", False)


def probe_move(client: Client[int], world: World) -> None:
    no_such_queue(client, "move", member="old", new="emails")
    no_such_queue(client, "move", member="new", old="emails")
    assert client.request("move", old="ordered", new="emails") == {"count": 0}
    assert refusal(client, "move", old="unheard-of", new="emails")[0] == "unknown_queue"


def probe_purge(client: Client[int], world: World) -> None:
    no_such_queue(client, "purge", state="dead")
    for state in ("completed", "dead", "queued", "scheduled"):
        for queue in ("later", "ordered", "drawn"):
            assert client.request("purge", queue=queue, state=state) == {"count": 0}


def probe_dead_retry(client: Client[int], world: World) -> None:
    every_dead_letter(client, world, "dead_retry")


def probe_dead_delete(client: Client[int], world: World) -> None:
    every_dead_letter(client, world, "dead_delete")


def every_dead_letter(client: Client[int], world: World, op: str) -> None:
    for chosen in ({"after_ms": 0}, {"text": SECRET}, {"type": "ValueError"}, {"ids": sorted(world.jobs.values())},
                   {"key": SECRET}, {"key": "k"}, {"key": "k", "queue": "ordered"}, {"queue": "emails"}):  # fmt: skip
        assert client.request(op, filter=chosen) == {"count": 0}, chosen
    assert refusal(client, op, filter={"queue": "shop/emails"})[0] == "unknown_queue"


def probe_dead_stop(client: Client[int], world: World) -> None:
    """Replays have numbers of their own; the first is that of shop."""
    assert refusal(client, "dead_stop", replay=1) == (*refusal(client, "dead_stop", replay=NOBODY)[:1], *(
        text and text.replace(str(NOBODY), "1") for text in refusal(client, "dead_stop", replay=NOBODY)[1:]
    ))  # fmt: skip
    before = client.status()["queues"]
    mine = client.request("dead_retry", filter={"after_ms": 0}, canary=5)["replay"]
    client.enqueue("emails", {"do": "tell"})
    until(lambda: settled_replay(world, mine), what="the end of the replay")
    assert client.status()["queues"]["ordered"] == before["ordered"] | {
        "oldest_queued_s": client.status()["queues"]["ordered"]["oldest_queued_s"]
    }
    assert refusal(client, "dead_stop", replay=mine)[0] == "wrong_state"


def settled_replay(world: World, number: int) -> bool:
    """Whether a replay is over, as whoever asked for it sees it."""
    shown = [
        row
        for scope in ("", "blog")
        for row in world.ctl(scope, "dead", "replays", "--json").lines
        if row["id"] == number
    ]
    assert len(shown) == 1, "it is of one scope"
    assert shown[0]["matched"] == 0, "no dead letter of another scope is meant"
    return shown[0]["ended_at"] is not None


def probe_edit(client: Client[int], world: World) -> None:
    as_if_there_were_none(client, world, "edit", tags=["x"])
    flow = flow_of_shop(world)
    assert refusal(client, "edit", job=flow, tags=["x"])[:2] == ("unknown_job", f"there is no job {flow}")
    own = client.enqueue("later", {"do": "tell"}, delay="1h")
    assert refusal(client, "edit", job=own, queue="shop/later")[0] == "unknown_queue"
    assert client.request("edit", job=own, queue="drawn")["queue"] == "drawn"
    client.cancel(own)
    assert client.request("delete", ids=[own]) == {"count": 1}


def probe_delete(client: Client[int], world: World) -> None:
    ids = sorted(world.jobs.values())
    for members in (
        {"ids": ids}, {"tag": SECRET}, {"text": SECRET}, {"type": "ValueError"}, {"state": "dead"}, {"queue": "later"},
        {"key": SECRET}, {"key": "k", "state": "queued"}, {"key": "", "state": "scheduled", "ids": ids},
        {"state": "scheduled", "ids": ids}, {"state": "queued", "ids": ids},
    ):  # fmt: skip
        assert client.request("delete", **members) == {"count": 0}, members
    no_such_queue(client, "delete")


def probe_scale(client: Client[int], world: World) -> None:
    no_such_queue(client, "scale", workers=1)
    assert client.request("scale", queue="scaled", workers=2) == {"queue": "scaled", "workers": 2}
    assert "/" not in refusal(client, "scale", queue="later", workers=2)[1]
    client.request("scale", queue="scaled", workers=None)


def no_such_schedule(client: Client[int], op: str, **members: Any) -> None:
    for name in ("shop/secret", "shop/nightly", "blog/nightly", "/nightly", "secret"):
        assert refusal(client, op, name=name, **members)[0] == "unknown_schedule", name


def probe_cron_list(client: Client[int], world: World) -> None:
    for after in (None, "", "a"):
        found = client.request("cron_list", after=after) if after else client.request("cron_list")
        assert [(plan["name"], plan["queue"]) for plan in found["schedules"]] == [("nightly", "later")]
        assert "/" not in found["schedules"][0]["explanation"]
    assert client.request("cron_list", after="nightly")["schedules"] == []


def probe_cron_show(client: Client[int], world: World) -> None:
    no_such_schedule(client, "cron_show")
    assert client.request("cron_show", name="nightly")["queue"] == "later"


def probe_cron_add(client: Client[int], world: World) -> None:
    """The same name as one of shop is another schedule."""
    for queue in ("shop/later", "blog/later", "unheard-of"):
        code, message, _ = refusal(client, "cron_add", name="secret", schedule={"queue": queue, "every": "1h"})
        assert (code, queue in message) == ("unknown_queue", True)
    assert refusal(client, "cron_add", name="shop/secret", schedule={"queue": "later", "every": "1h"})[0] in (
        "unknown_schedule", "usage"
    )  # fmt: skip
    added = client.request("cron_add", name="secret", schedule={"queue": "later", "every": "2h"})
    assert (added["name"], added["queue"], added["every_s"]) == ("secret", "later", 7200)
    assert client.request("cron_remove", name="secret") == {"name": "secret"}


def probe_cron_remove(client: Client[int], world: World) -> None:
    no_such_schedule(client, "cron_remove")
    assert refusal(client, "cron_remove", name="nightly")[0] == "wrong_state"


def probe_cron_pause(client: Client[int], world: World) -> None:
    no_such_schedule(client, "cron_pause")
    assert client.request("cron_pause", name="nightly")["paused"] is True
    client.request("cron_resume", name="nightly")


def probe_cron_resume(client: Client[int], world: World) -> None:
    no_such_schedule(client, "cron_resume")
    assert client.request("cron_resume", name="nightly")["name"] == "nightly"


def probe_cron_run(client: Client[int], world: World) -> None:
    no_such_schedule(client, "cron_run")
    client.request("pause", queue="later")
    ran = client.request("cron_run", name="nightly")
    assert (ran["name"], ran["queue"], client.status(ran["id"])["queue"]) == ("nightly", "later", "later")
    client.cancel(ran["id"])
    client.request("delete", ids=[ran["id"]])
    client.request("resume", queue="later")


FLOWS: dict[int, int] = {}
"""By world, an open flow of shop without jobs."""


def flow_of_shop(world: World) -> int:
    if id(world) not in FLOWS:
        with world.client("shop") as shop:
            FLOWS[id(world)] = shop.flows.start({"name": SECRET, "steps": []}, open=True)
    return FLOWS[id(world)]


def no_such_flow(client: Client[int], world: World, op: str, **how: Any) -> None:
    """The flow of another scope is as one that there is not, and stands as it did."""
    flow = flow_of_shop(world)
    code, message, hint = refusal(client, op, flow=flow, **how)
    assert (code, message) == ("unknown_flow", f"there is no flow {flow}")
    assert refusal(client, op, flow=2**52, **how) == (code, message.replace(str(flow), str(2**52)), hint)
    for job in world.jobs.values():
        told = (code, message.replace(str(flow), str(job)), hint)
        assert refusal(client, op, flow=job, **how) == told, "what has the id there is not told"
    with world.client("shop") as shop:
        shown = shop.flows.show(flow)
        assert (shown["state"], shown["open"]) == ("running", True)


def probe_flow_start(client: Client[int], world: World) -> None:
    for step in ({"queue": "shop/emails"}, {"queue": "emails", "steps": None, "after": ["nowhere"]}):
        assert refusal(client, "flow_start", key="f", steps=[step])[0] in ("unknown_queue", "invalid_flow")
    called = {"queue": "shop/emails"}
    assert refusal(client, "flow_start", key="f", steps=[], on_success=called)[0] == "unknown_queue"
    flow = flow_of_shop(world)
    code, message, _ = refusal(client, "flow_start", key="f", steps=[{"queue": "emails"}], into=flow)
    assert (code, message) == ("unknown_flow", f"there is no flow {flow}")


def probe_flow(client: Client[int], world: World) -> None:
    no_such_flow(client, world, "flow")


def probe_flow_list(client: Client[int], world: World) -> None:
    flow = flow_of_shop(world)
    assert flow not in [each["id"] for each in client.request("flow_list")["flows"]]


def probe_flow_signal(client: Client[int], world: World) -> None:
    no_such_flow(client, world, "flow_signal", signal="s")


def probe_flow_close(client: Client[int], world: World) -> None:
    no_such_flow(client, world, "flow_close")


def probe_flow_cancel(client: Client[int], world: World) -> None:
    no_such_flow(client, world, "flow_cancel")


def probe_flow_retry(client: Client[int], world: World) -> None:
    no_such_flow(client, world, "flow_retry")


def probe_alerts_test(client: Client[int], world: World) -> None:
    if client.request("hello")["scope"] is None:
        return  # whom it tells, and how, is the main file's
    with pytest.raises(Denied, match="main socket only"):
        client.request("alerts_test")


def probe_reload(client: Client[int], world: World) -> None:
    if client.request("hello")["scope"] is None:
        assert client.request("reload")["changed"] == []
        return
    with pytest.raises(Denied, match="main socket only"):
        client.request("reload")


OPERATIONS = {str(kind.__struct_config__.tag): kind for kind in typing.get_args(messages.AnyRequest)}


def test_every_operation_is_translated_or_refused() -> None:
    assert set(PASSAGES) | OF_THE_DAEMON == set(OPERATIONS.values())
    assert not set(PASSAGES) & OF_THE_DAEMON


@pytest.mark.parametrize("op", OPERATIONS)
def test_no_operation_shows_or_touches_what_another_scope_has(world: World, asker: str, op: str) -> None:
    probe: Callable[[Client[int], World], None] | None = globals().get(f"probe_{op}")
    assert probe is not None, f"write probe_{op}: what must a client of one scope not get of another by it?"
    before = world.stand()
    with world.client(asker) as client:
        heard: list[Any] = []
        plain = client.request

        def request(op: str, /, **how: Any) -> dict[str, Any]:
            reply = plain(op, **how)
            heard.append(reply)
            return reply

        client.request = request  # type: ignore[method-assign]
        probe(client, world)
    for reply in heard:
        clean({} if "tree" in reply and not asker else reply, world)
    assert settled(world.stand()) == settled(before)


def settled(stand: list[Any]) -> Any:
    """What does not change by itself."""
    jobs, queues, plans = stand
    # When a running job was begun is worked out anew each time, from two clocks.
    jobs = [{k: v for k, v in job.items() if k != "started_at" or job["state"] != "running"} for job in jobs]
    queues = {
        name: {k: v for k, v in queue.items() if k not in ("oldest_queued_s", "scale_reason")}
        for name, queue in queues.items()
    }
    return jobs, queues, plans


# -- the commands ------------------------------------------------------------------------------------------------

CALLS: dict[str, list[list[str]]] = {
    "jobsctl enqueue": [["enqueue", "shop/emails", "1"]],
    "jobsctl status": [["status"], ["status", "ID"]],
    "jobsctl list": [["list", "--limit", "0"], ["list", "--queue", "emails"], ["list", "--queue", "shop/emails"],
                     ["list", "--tag", SECRET], ["list", "--key", SECRET], ["list", "--key", ""],
                     ["list", "--state", "dead"], ["list", "--state", "running"],
                     ["list", "--state", "scheduled"], ["list", "--state", "completed", "--limit", "0"]],
    "jobsctl explain": [["explain", "ID"]],
    "jobsctl wait": [["wait", "ID", "--timeout", "5s"]],
    "jobsctl cancel": [["cancel", "ID"]],
    "jobsctl retry": [["retry", "ID", "--force"]],
    "jobsctl dead list": [["dead", "list", "--limit", "0"], ["dead", "list", "ID"], ["dead", "list", "--text", SECRET],
                          ["dead", "list", "--key", SECRET]],
    "jobsctl dead retry": [["dead", "retry", "--all"], ["dead", "retry", "--key", SECRET]],
    "jobsctl dead delete": [["dead", "delete", "--all"], ["dead", "delete", "--key", SECRET]],
    "jobsctl keys": [["keys", "ordered", "--all"], ["keys", "emails", "--all"], ["keys", "shop/ordered", "--all"]],
    "jobsctl tasks": [["tasks"], ["tasks", "emails"], ["tasks", "shop/emails"]],
    "jobsctl pause": [["pause", "shop/emails"]],
    "jobsctl resume": [["resume", "shop/later"]],
    "jobsctl move": [["move", "shop/later", "emails"], ["move", "emails", "shop/later"]],
    "jobsctl purge": [["purge", "shop/later", "--state", "queued"]],
    "jobsctl workers": [["workers"]],
    "jobsctl tree": [["tree"]],
    "jobsctl config check": [["config", "check"]],
    "jobsctl config show": [["config", "show"]],
    "jobsctl reload": [["reload"]],
    "jobsctl doctor": [["doctor"]],
    "jobsctl fetch": [["fetch", "shop/pulled"], ["fetch", "pulled"]],
    "jobsctl extend": [["extend", "1"], ["extend", "12"]],
    "jobsctl ack": [["ack", "ID", "12"]],
    "jobsctl fail": [["fail", "ID", "12", "no"]],
    "jobsctl release": [["release", "1"], ["release", "12"]],
    "jobsctl consumers": [["consumers"]],
    "jobsctl edit": [["edit", "ID", "--tag", "x"]],
    "jobsctl delete": [["delete", "--tag", SECRET], ["delete", "--state", "dead"], ["delete", "--key", SECRET]],
    "jobsctl export": [["export"], ["export", "--state", "dead"], ["export", "--text", SECRET],
                       ["export", "--key", SECRET]],
    "jobsctl stats": [["stats"], ["stats", "emails"], ["stats", "shop/emails"]],
    "jobsctl scale": [["scale", "shop/scaled", "2"]],
    "jobsctl dead groups": [["dead", "groups"], ["dead", "groups", "--queue", "emails"]],
    "jobsctl dead replays": [["dead", "replays"]],
    "jobsctl dead stop": [["dead", "stop", "1"]],
    "jobsctl alerts test": [["alerts", "test"]],
    "jobsctl outbox list": [["outbox", "list"]],
    "jobsctl outbox sql": [["outbox", "sql"]],
    "jobsctl cron list": [["cron", "list"]],
    "jobsctl cron show": [["cron", "show", "secret"], ["cron", "show", "shop/secret"]],
    "jobsctl cron explain": [["cron", "explain", "secret"], ["cron", "explain", "shop/secret"]],
    "jobsctl cron preview": [["cron", "preview", "secret"]],
    "jobsctl cron add": [["cron", "add", "shop/secret", "later", "--every", "1h"],
                         ["cron", "add", "x", "shop/later", "--every", "1h"]],
    "jobsctl cron remove": [["cron", "remove", "secret"]],
    "jobsctl cron pause": [["cron", "pause", "secret"]],
    "jobsctl cron resume": [["cron", "resume", "secret"]],
    "jobsctl cron run": [["cron", "run", "secret"]],
    "jobsctl flow start": [["flow", "start", "-"]],
    "jobsctl flow add": [["flow", "add", "FLOW", "/dev/null"]],
    "jobsctl flow list": [["flow", "list"]],
    **{f"jobsctl flow {verb}": [["flow", verb, "FLOW"]] for verb in ("show", "close", "cancel", "retry")},
    "jobsctl flow signal": [["flow", "signal", "FLOW", "s"]],
    "jobsctl backup": [["backup", "COPY"]],
    "jobsctl completion": [["completion", "bash"]],
    "jobsctl queues add": [["queues", "add", "shop/emails", "--handler", "tasks:run"]],
}  # fmt: skip
"""Each command, as somebody would use it who looks for what is not his; ID: each job of shop in turn."""


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS])
def test_no_command_shows_or_touches_what_another_scope_has(world: World, path: str, tmp_path: Path) -> None:
    assert path in CALLS, f"write in CALLS how {path} would be used to look into another scope"
    before = world.stand()
    for call in CALLS[path]:
        ids = sorted(world.jobs.values()) if "ID" in call else [0]
        for job_id in (ids[0], ids[-1]) if len(ids) > 1 else ids:
            args = [
                {"ID": str(job_id), "COPY": str(tmp_path / "copy.db"), "FLOW": str(flow_of_shop(world))}.get(word, word)
                for word in call
            ]
            ran = world.ctl("blog", *args, "--json") if path != "jobsctl completion" else world.ctl("blog", *args)
            assert SECRET not in ran.out + ran.err, args
            for line in ran.lines if path not in ("jobsctl completion", "jobsctl dead replays") else []:
                clean(line, world)
            if "ID" in call and path != "jobsctl dead list":
                assert ran.status == 3, (args, ran)
            if path in ("jobsctl dead stop", "jobsctl cron show", "jobsctl cron remove", "jobsctl cron run"):
                assert ran.status == 3, (args, ran)
            if "FLOW" in call and path != "jobsctl flow add":
                assert ran.status == 3, (args, ran)
            if any(word.startswith("shop/") for word in call):
                assert ran.status in (2, 3), (args, ran)
    assert settled(world.stand()) == settled(before)


def test_what_is_done_for_all_scopes_is_refused_to_one(world: World, tmp_path: Path) -> None:
    for args in (["reload"], ["backup", str(tmp_path / "copy.db")]):
        ran = world.ctl("blog", *args, "--json")
        assert (ran.status, ran.json["error"]["code"]) == (4, "denied"), args
    assert not (tmp_path / "copy.db").exists()


# -- what works within a scope -----------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", ["emails", "tenant_b", "drawn", "limited", "ordered"])
def test_a_handler_knows_its_scope_only(world: World, queue: str) -> None:
    with world.client("blog") as client:
        found = client.wait(client.enqueue(queue, {"do": "tell"}), timeout=30)
        assert found["queue"] == queue
        assert found["result"] == [queue, str(world.daemon.run_dir / "scopes" / "blog.sock"), None]


def test_what_a_handler_enqueues_stays_in_its_scope(world: World) -> None:
    with world.client("blog") as client, world.client("") as main:
        before = client.status()["queues"]["limited"]["completed"]
        client.wait(client.enqueue("emails", {"do": "follow", "to": "limited"}), timeout=30)
        until(lambda: client.status()["queues"]["limited"]["completed"] > before, what="the child")
        refused = client.wait(client.enqueue("emails", {"do": "follow", "to": "shop/limited"}), timeout=30)
        assert refused["state"] == "dead"
        assert refused["errors"][-1]["message"] == "job.enqueue: there is no queue shop/limited"
        unheard = client.wait(client.enqueue("emails", {"do": "follow", "to": "nowhere"}), timeout=30)
        assert unheard["errors"][-1]["message"] == "job.enqueue: there is no queue nowhere"
        assert "blog/" not in json.dumps(refused)
        later = client.wait(client.enqueue("emails", {"do": "client"}), timeout=30)["result"]
        assert client.status(later)["state"] == "scheduled"
        with pytest.raises(UnknownJob):
            main.status(later)
        client.request("dead_delete", filter={"after_ms": 0})


def test_a_shared_limit_is_shared_within_its_scope_only(world: World, tmp_path: Path) -> None:
    """One job of blog holds its limit api; that of shop has room, and a second one of blog waits, and is told why."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with world.client("blog") as blog, world.client("shop") as shop:
        holds = blog.enqueue("limited", {"do": "hold", "fifo": str(fifo)})
        until(lambda: blog.status(holds)["worker"], what="a job that runs")
        waits = blog.enqueue("limited", {"do": "tell"})
        assert shop.wait(shop.enqueue("limited", {"do": "tell"}), timeout=30)["state"] == "completed"
        why = blog.explain(waits)
        assert why["sentence"] == f"job {waits} of limited: limit api lets 1 run at once, and job {holds} has that slot"
        assert (why["reasons"][0]["name"], why["reasons"][0]["jobs"]) == ("limit:api", [holds])
        until(lambda: opened(fifo), what="the end of the job that holds")
        assert blog.wait(waits, timeout=30)["state"] == "completed"
        shop.request("purge", queue="limited", state="completed")


def test_access_lists_of_a_scope_hold_for_its_socket(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        world.config("blog").write_text(SCOPE + '[access]\nenqueue = ["user:nobody"]\n')
        assert world.ctl("", "reload").status == 0
        with Client(world.config("blog")) as client:  # root and the service's own user always may
            client.enqueue("emails", {"do": "tell"})
        shown = world.ctl("blog", "config", "show", "--json").json["access"]
        assert (shown["enqueue"], world.ctl("shop", "config", "show", "--json").json["access"]["enqueue"]) == (
            ["user:nobody"],
            [],
        )
        mode = (daemon.run_dir / "scopes" / "blog.sock").stat().st_mode & 0o777
        assert mode == daemon.socket.stat().st_mode & 0o777 == 0o660


# -- while the daemon runs, and while it does not ----------------------------------------------------------------


def test_scopes_come_and_go_with_a_reload_and_their_jobs_wait_for_them(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        blog = Client(socket=str(daemon.run_dir / "scopes" / "blog.sock"))
        job_id = blog.enqueue("emails", {"do": "tell"}, delay="1h")
        write(tmp_path, ("shop",))
        assert ["removed", "blog/emails"] in world.ctl("", "reload").rows
        assert not (daemon.run_dir / "scopes" / "blog.sock").exists()
        with pytest.raises(NotRunning):
            Client(socket=str(daemon.run_dir / "scopes" / "blog.sock"), timeout=1, one_shot=False).status()
        assert world.ctl("blog", "status").status == 2, "its file is of no main file any more"
        with world.client("") as main, pytest.raises(UnknownJob):
            main.status(job_id)
        assert "1 job of scope blog waiting" in world.ctl("", "doctor").out
        write(tmp_path, ("shop", "blog", "new"))
        assert ["added", "new/emails"] in world.ctl("", "reload").rows
        assert "config_not_loaded" not in world.ctl("", "doctor").out
        with world.client("new") as new, world.client("blog") as again:
            assert new.wait(new.enqueue("emails", {"do": "tell"}), timeout=30)["state"] == "completed"
            assert again.status(job_id)["state"] == "scheduled"
            keeper = next(node["pid"] for node in new.request("tree")["tree"] if node["role"] == "keeper")
            os.kill(keeper, 9)
            until(lambda: new.request("hello")["scope"] == "new", what="the next keeper")
            assert new.wait(new.enqueue("emails", {"do": "tell"}), timeout=30)["state"] == "completed"
        blog.close()
        assert daemon.stop() == 0
        assert list((daemon.run_dir / "scopes").iterdir()) == []


def test_without_a_daemon_a_scope_is_a_scope(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        assert daemon.stop() == 0
        with world.client("shop") as shop:
            hidden = shop.enqueue("later", {"do": "tell", "said": SECRET}, key=SECRET)
            dead = shop.enqueue("ordered", {"do": "tell", "said": SECRET}, key=SECRET)
        with world.client("blog") as blog:
            own = blog.enqueue("later", {"do": "tell"})
            for refused in (lambda: blog.status(hidden), lambda: blog.cancel(dead), lambda: blog.explain(hidden)):
                with pytest.raises(UnknownJob):
                    refused()
            with pytest.raises(UnknownQueue):
                blog.enqueue("shop/later", 1)
            with pytest.raises(Denied):
                blog.request("reload")
        for scope, ids in (("blog", [own]), ("", []), ("shop", [dead, hidden])):
            assert [row["id"] for row in world.ctl(scope, "list", "--json").lines] == ids
            counts = world.ctl(scope, "status", "--json").json["queues"]
            assert sum(queue["queued"] for queue in counts.values()) == len(ids)
            assert world.ctl(scope, "status", hidden).status == (0 if scope == "shop" else 3)
            assert world.ctl(scope, "explain", hidden).status == (0 if scope == "shop" else 3)
            keys = world.ctl(scope, "keys", "later", "--all", "--json").lines
            assert [key["key"] for key in keys if key["key"]] == ([SECRET] if scope == "shop" else [])
            if scope != "shop":
                everything = world.ctl(scope, "list", "--queue", "shop/later")
                assert everything.status in (2, 3)
        assert "no daemon runs" in world.ctl("shop", "explain", hidden).out
        assert world.ctl("shop", "explain", hidden, "--json").json["queue"] == "later"
        daemon.start()
        with world.client("shop") as shop:
            assert shop.wait(hidden, timeout=30)["result"][0] == "later"


def test_the_same_key_in_two_scopes_is_two_keys(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        ids: dict[str, list[int]] = {"shop": [], "blog": [], "": []}
        for scope, queue in (("shop", "emails"), ("blog", "emails"), ("", "emails"), ("shop", "later")):
            with world.client(scope) as client:
                ids[scope] += client.enqueue_many(queue, [{"do": "fail", "said": "x"}] * 2, key="acme")
                for job_id in ids[scope]:
                    client.wait(job_id, timeout=30)
        for scope, mine in ids.items():
            listed = world.ctl(scope, "list", "--key", "acme", "--json").lines
            assert [row["id"] for row in listed] == mine[::-1]
            dead = world.ctl(scope, "dead", "list", "--key", "acme", "--json").lines
            assert [row["id"] for row in dead] == mine[::-1]
        assert world.ctl("blog", "dead", "retry", "--key", "acme", "--pace", "100/s", "--json").json == {"replay": 1}
        found = until(lambda: [one for one in world.ctl("blog", "dead", "replays", "--json").lines if one["ended_at"]])
        assert [(one["filter"], one["matched"], one["failed"]) for one in found] == [({"key": "acme"}, 2, 2)]
        assert world.ctl("", "delete", "--key", "acme").out == "2\n"
        assert world.ctl("shop", "dead", "delete", "--key", "acme", "--queue", "later").out == "2\n"
        assert world.ctl("shop", "dead", "retry", "--key", "acme").out == "2\n"
        left = [world.ctl(scope, "list", "--key", "acme", "--json").lines for scope in ids]
        assert [[row["id"] for row in rows] for rows in left] == [ids["shop"][1::-1], ids["blog"][::-1], []]


def test_a_client_of_a_removed_scope_is_sent_away_even_while_it_waits(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        socket = str(daemon.run_dir / "scopes" / "blog.sock")
        with Client(socket=socket, timeout=2) as blog:
            blog.enqueue("emails", {"do": "tell"})
            write(tmp_path, ("shop",))
            assert world.ctl("", "reload").status == 0
            with pytest.raises(NotRunning):
                blog.status()


def test_a_daemon_is_not_started_with_the_file_of_a_scope(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        assert daemon.stop() == 0
        daemon.config = tmp_path / "etc" / "shop" / "queues.toml"
        daemon.start(ready=False)
        assert daemon.wait_end() == 2
        assert "is the file of scope shop, which the daemon of" in daemon.log
        daemon.config = tmp_path / "etc" / "queues.toml"


def test_a_pool_that_cannot_work_says_so_in_its_scope_alone_and_goes_on_when_it_is_mended(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        world.config("blog").write_text(SCOPE + '[queues.broken]\nhandler = "nowhere:run"\n')
        assert world.ctl("", "reload").status == 1, "as for a queue of its own"
        with world.client("blog") as blog, world.client("shop") as shop:
            job_id = blog.enqueue("broken", 1)
            shown = until(
                lambda: (q := blog.status()["queues"]["broken"])["circuit"] == "open" and q, what="its circuit"
            )
            why = blog.explain(job_id)
            assert why["reasons"][0]["kind"] == "circuit"
            assert (why["reasons"][0]["pool"], shown["pool"]) == ("broken", "broken")
            for said in (shown["reason"], why["sentence"], why["reasons"][0]["reason"], why["reasons"][0]["sentence"]):
                assert "blog/" not in said
            assert "nowhere" in why["sentence"]
            assert "broken" not in shop.status()["queues"]
            (daemon.app / "nowhere.py").write_text("def run(job): return job.queue\n")
            blog.request("resume", queue="broken")
            assert blog.wait(job_id, timeout=30)["result"] == "broken"
        assert "pool blog/broken" in daemon.log, "the log is of all scopes"


def test_a_wrong_file_of_one_scope_changes_nothing_for_any(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        world.config("blog").write_text(SCOPE + "[log]\n")
        ran = world.ctl("", "reload", "--json")
        assert (ran.status, ran.json["error"]["code"]) == (2, "config")
        assert "blog/queues.toml" in ran.json["error"]["message"]
        with Client(socket=str(daemon.run_dir / "scopes" / "blog.sock")) as blog, world.client("shop") as shop:
            for client in (blog, shop):
                assert client.wait(client.enqueue("emails", {"do": "tell"}), timeout=30)["state"] == "completed"
                assert client.status()["daemon"]["reload_error"] is None, "it may name what is of others"
        with world.client("") as main:
            assert "blog/queues.toml" in main.status()["daemon"]["reload_error"]


def test_jobs_in_the_buffer_are_of_their_scope_as_well(tmp_path: Path) -> None:
    """Buffered, ids are known before their jobs are written: others must not reach them then either."""
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        main = tmp_path / "etc" / "queues.toml"
        main.write_text('[intake]\nacknowledge = "buffered"\nflush_interval = "1m"\n' + main.read_text())
        assert world.ctl("", "reload").status == 0
        with world.client("shop") as shop, world.client("blog") as blog:
            made = shop.insert("later", [{"payload": SECRET}], request_key=GROUP)
            assert made["acknowledged"] == "buffered"
            other = blog.insert("later", [{"payload": 1}], request_key=GROUP)
            assert not other["repeated"]
            (job_id,) = made["ids"]
            assert blog.request("cancel", ids=[job_id])["failed"][0]["code"] == "unknown_job"
            for ask in (blog.status, blog.explain, blog.wait):
                with pytest.raises(UnknownJob):
                    ask(job_id)
            assert shop.status(job_id)["payload"] == SECRET
            assert shop.insert("later", [{"payload": SECRET}], request_key=GROUP)["ids"] == made["ids"]


def test_after_everything_was_killed_scopes_are_as_they_were(tmp_path: Path) -> None:
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        shop, blog = world.client("shop"), world.client("blog")
        ids = {client: client.enqueue("emails", {"do": "tell"}, delay="1h") for client in (shop, blog)}
        daemon.sweep()
        left = daemon.run_dir / "scopes" / "gone.sock"
        left.touch()
        assert (daemon.run_dir / "scopes" / "shop.sock").exists()
        daemon.start()
        assert not left.exists()
        for mine, other in ((shop, blog), (blog, shop)):
            assert mine.status(ids[mine])["state"] == "scheduled"
            with pytest.raises(UnknownJob):
                mine.status(ids[other])
            mine.close()


LATER = {"payload": 1, "delay_ms": 3_600_000}


def test_what_is_refused_is_told_by_short_names(tmp_path: Path) -> None:
    """By a client that does not try again, as ours does where a queue is full."""
    with start(tmp_path) as daemon:
        world = World(daemon, {}, tmp_path)
        world.config("blog").write_text(
            SCOPE + '[queues.small]\nhandler = "tasks:run"\nmax_size = 1\nmax_payload = "10B"\n'
            '[queues.single]\nhandler = "tasks:run"\nunique = { on_conflict = "refuse" }\n'
        )
        assert world.ctl("", "reload").status == 0
        blog = Scratch(str(daemon.run_dir / "scopes" / "blog.sock"), "blog")
        assert blog.enqueue("single", LATER)["ok"]["existing"] == []
        for queue, jobs, code in (
            ("small", [LATER, LATER], "queue_full"),
            ("small", [{"payload": "x" * 20}], "payload_too_large"),
            ("small", [{"payload": 1, "priority": 5}], "invalid_payload"),
            ("single", [LATER], "not_unique"),
            ("smal", [LATER], "unknown_queue"),
        ):
            error = blog.enqueue(queue, *jobs)["error"]
            said = f"{error['message']} {error['hint']}"
            assert (error["code"], queue in said, "blog/" in said, "shop" in said) == (code, True, False, False), said
        blog.socket.close()


def test_callbacks_and_schedules_stay_in_their_scope(world: World) -> None:
    with world.client("blog") as client:
        client.wait(client.enqueue("calls", {"do": "fail", "said": "x"}), timeout=30)
        until(lambda: client.status()["queues"]["called"]["completed"] == 1, what="the callback")
        (called,) = world.ctl("blog", "list", "--queue", "called", "--json").lines
        assert called["result"] == "calls"
        client.request("cron_add", name="often", schedule={"queue": "emails", "every": "1s"})
        fired = until(lambda: client.request("cron_show", name="often")["last_job"], 30, "a job of the schedule")
        client.request("cron_remove", name="often")
        assert client.status(fired["id"])["queue"] == "emails"
        client.request("dead_delete", filter={"after_ms": 0})
