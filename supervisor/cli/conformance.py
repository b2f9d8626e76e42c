"""Whether an implementation of the protocol does what docs/protocol.md says: a consumer, or a server.

    python -m supervisor.cli.conformance consumer -- COMMAND ARGUMENT...
    python -m supervisor.cli.conformance server SOCKET QUEUE

A consumer is run against a server that follows a script: it sends frames in pieces, loses answers, and says that a
lease is over. A server is asked by a client that knows nothing but the protocol. One line for each case; the exit
status is 0 if all passed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from supervisor.unix.clock import boot_ms

PATIENCE_S = 10.0
LATER = "of a later version"
Message = dict[str, Any]


class NotConforming(Exception):
    """What the other side did wrong."""


def must(condition: object, said: str) -> None:
    """Find fault unless this holds.

    Raises:
        NotConforming: it does not.
    """
    if not condition:
        raise NotConforming(said)


def fault(said: str) -> NoReturn:
    """Find fault.

    Raises:
        NotConforming: always.
    """
    raise NotConforming(said)


# -- frames ------------------------------------------------------------------------------------------------------


class Line:
    """One connection, of either side."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE_S)

    def receive(self) -> Message | None:
        """The next message; None at the end of the connection."""
        head = self._exactly(4)
        if head is None:
            return None
        (size,) = struct.unpack(">I", head)
        must(1 <= size <= 16 * 1024 * 1024, f"a frame of {size} bytes")
        body = self._exactly(size)
        must(body is not None, "the connection ended inside a frame")
        try:
            message = json.loads(body or b"")
        except ValueError as error:
            fault(f"a frame that is not JSON: {error}")
        must(isinstance(message, dict) and message.get("v") == 1, "a frame that is no object of version 1")
        return dict(message)

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                more = self.sock.recv(size - len(data))
            except TimeoutError:
                fault(f"nothing was sent for {PATIENCE_S:g} s")
            except ConnectionError:
                more = b""
            if not more:
                must(not data, "the connection ended inside a frame")
                return None
            data += more
        return data

    def send(self, *messages: Message, piecewise: bool = False) -> None:
        """Send messages, one behind the other in one piece, or byte by byte."""
        data = b"".join(struct.pack(">I", len(body)) + body for body in map(_body, messages))
        for begin in range(0, len(data), 1 if piecewise else len(data)):
            self.sock.sendall(data[begin : begin + 1] if piecewise else data)

    def close(self) -> None:
        """End it."""
        self.sock.close()


def _body(message: Message) -> bytes:
    return json.dumps({"v": 1, **message}).encode()


# -- a consumer, against a server with a script --------------------------------------------------------------------


class Server:
    """Listens, and starts the consumer."""

    def __init__(self, command: list[str], folder: str) -> None:
        path = os.path.join(folder, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(8)
        self.listener.settimeout(PATIENCE_S)
        self.jobs = 0
        self.process = subprocess.Popen(command, env=os.environ | {"JOBSUP_SOCKET": path}, stdin=subprocess.DEVNULL)
        self.line = self.accept()

    def accept(self) -> Line:
        """The next connection."""
        try:
            return Line(self.listener.accept()[0])
        except TimeoutError:
            fault(f"it did not connect within {PATIENCE_S:g} s")

    def end(self) -> None:
        """End the consumer, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.line.close()
        self.listener.close()

    def asked(self, op: str) -> Message:
        """The next request, which must be this one; questions of the status class are refused, and passed over."""
        while True:
            request = self.line.receive()
            if request is None:
                fault(f"it closed the connection and did not ask {op}")
            must(type(request.get("id")) is int, "a request without an id")
            if request.get("op") == op:
                return request
            must(request.get("op") in ("hello", "status"), f"it asked {request.get('op')} where {op} was expected")
            self.refuse(request, "denied")

    def reply(self, request: Message, ok: Message, *, piecewise: bool = False) -> None:
        """Answer; with what a later version may say as well."""
        self.line.send({"id": request["id"], "ok": {**ok, LATER: [1]}}, piecewise=piecewise)

    def refuse(self, request: Message, code: str) -> None:
        """Refuse."""
        said = {"code": code, "message": f"the script says {code}", "hint": None}
        self.line.send({"id": request["id"], "error": said})

    def give(self, payload: Any, *, lease_s: float = 60.0, piecewise: bool = False) -> Message:
        """Answer the next fetch with a job; the job."""
        return self.give_to(self.asked("fetch"), payload, lease_s=lease_s, piecewise=piecewise)

    def give_to(self, request: Message, payload: Any, *, lease_s: float = 60.0, piecewise: bool = False) -> Message:
        """Answer a fetch with a job; the job."""
        self.jobs += 1
        job = {
            "id": self.jobs, "token": 100 + self.jobs, "queue": request["queue"], "payload": payload, "attempt": 1,
            "max_attempts": 5, "priority": 0, "key": None, "tags": [], "enqueued_at": "2026-01-31T09:00:00.000Z",
            "due_at": None, "deadline_at": None, "previous_error": None, "flow": None, LATER: {},
        }  # fmt: skip
        until = "2026-01-31T09:01:00.000Z"
        answer = {"token": job["token"], "jobs": [job], "lease_s": lease_s, "until_at": until, "repeated": False}
        self.reply(request, answer, piecewise=piecewise)
        return job

    def done(self, job: Message, request: Message | None = None) -> Message:
        """An ack of the job, which is answered."""
        request = request or self.asked("ack")
        _of(job, request)
        said = {"id": job["id"], "queue": job["queue"], "state": "completed", "repeated": False}
        self.reply(request, said)
        return request

    def works_on(self) -> None:
        """The consumer goes on as if nothing had been."""
        job = self.give({"n": 1})
        must(self.done(job).get("result") == {"n": 1}, "the result of the job that followed is not its payload")


def _of(job: Message, request: Message) -> None:
    must(request.get("job") == job["id"], f"it spoke of job {request.get('job')}, and has job {job['id']}")
    must(request.get("token") == job["token"], f"it named token {request.get('token')}, and has {job['token']}")


def it_gives_results_back(server: Server) -> None:
    """The result of a job is its payload, whatever stands in it"""
    for payload in (
        None,
        0,
        -1.5,
        2**53 - 1,
        "",
        'a\u00e4\u20ac\U0001f600\n\t"\\/',
        [],
        {},
        [1, [2, [None]]],
        {"": {"b": True}},
    ):
        job = server.give(payload)
        must(server.done(job).get("result") == payload, f"the result of {payload!r} is another one")


def it_reads_frames_in_pieces(server: Server) -> None:
    """A frame may come byte by byte"""
    job = server.give({"n": 1}, piecewise=True)
    server.done(job)
    server.works_on()


def it_reports_failures(server: Server) -> None:
    """A failure is said with its message and type"""
    job = server.give({"do": "fail", "message": "no such \u00e4 image", "type": "NotFound"})
    request = server.asked("fail")
    _of(job, request)
    must(request.get("message") == "no such \u00e4 image", "the message is another one")
    must(request.get("type") == "NotFound", "the type is another one")
    server.reply(request, {"id": job["id"], "queue": job["queue"], "state": "scheduled"})
    server.works_on()


def it_asks_again_when_nothing_came(server: Server) -> None:
    """After an empty answer it fetches again, under another key"""
    first = server.asked("fetch")
    nothing: Message = {"token": None, "jobs": [], "lease_s": None, "until_at": None, "repeated": False}
    server.reply(first, nothing)
    second = server.asked("fetch")
    must(second.get("key") is None or second.get("key") != first.get("key"), "the key of the next fetch is the same")
    server.done(server.give_to(second, 1))


def it_extends_its_lease(server: Server) -> None:
    """While it works the lease is extended, before its end"""
    began_ms = boot_ms()
    job = server.give({"do": "sleep", "seconds": 2.0}, lease_s=1.0)
    held = {"token": job["token"], "lease_s": 1.0, "until_at": None, "jobs": [job["id"]], "cancelled": []}
    for _ in range(2):
        request = server.asked("extend")
        must(boot_ms() - began_ms < 1_000, "the lease was over when it was extended")
        must(request.get("token") == job["token"], "it extended another lease")
        server.reply(request, held)
        began_ms = boot_ms()
    while (request := server.line.receive() or {}).get("op") == "extend":
        server.reply(request, held)
    must(request.get("op") == "ack", f"it asked {request.get('op')} where ack was expected")
    server.done(job, request)


def it_hears_of_a_cancel(server: Server) -> None:
    """A job that was cancelled is not acknowledged: it fails, or is released"""
    job = server.give({"do": "sleep", "seconds": 5.0}, lease_s=1.0)
    request = server.asked("extend")
    said = {"token": job["token"], "lease_s": 1.0, "until_at": None, "jobs": [job["id"]], "cancelled": [job["id"]]}
    server.reply(request, said)
    answer = server.line.receive() or {}
    must(answer.get("op") in ("fail", "release"), f"it asked {answer.get('op')} of a cancelled job")
    ok = {"id": job["id"], "queue": job["queue"], "state": "cancelled", "token": job["token"], "done": [job["id"]]}
    server.reply(answer, ok)
    server.works_on()


def it_drops_what_is_stale(server: Server) -> None:
    """After `stale` it says nothing more of the job, and goes on"""
    server.give(1)
    server.refuse(server.asked("ack"), "stale")
    server.works_on()
    job = server.give({"do": "sleep", "seconds": 5.0}, lease_s=1.0)
    request = server.asked("extend")
    must(request.get("token") == job["token"], "it extended another lease")
    server.refuse(request, "stale")
    server.works_on()


def it_asks_again_when_busy(server: Server) -> None:
    """What was refused as `busy` is asked again"""
    first = server.asked("fetch")
    server.refuse(first, "busy")
    job = server.give(1)
    server.refuse(server.asked("ack"), "busy")
    server.done(job)
    server.works_on()


def it_repeats_a_fetch_whose_answer_was_lost(server: Server) -> None:
    """A connection that breaks while it waits is made again; a fetch with a key is asked under the same"""
    first = server.asked("fetch")
    server.line.close()
    server.line = server.accept()
    again = server.asked("fetch")
    must(
        first.get("key") is not None, "its fetches have no key, so that jobs whose answer is lost are lost for a lease"
    )
    must(again.get("key") == first.get("key"), "the fetch was repeated under another key")
    server.done(server.give_to(again, 1))
    server.works_on()


def it_repeats_an_ack_whose_answer_was_lost(server: Server) -> None:
    """An ack that was not answered is said again over a new connection"""
    job = server.give({"n": 1})
    first = server.asked("ack")
    server.line.close()
    server.line = server.accept()
    again = server.asked("ack")
    _of(job, again)
    must(again.get("result") == first.get("result"), "the result of the repeated ack is another one")
    server.reply(again, {"id": job["id"], "queue": job["queue"], "state": "completed", "repeated": True})
    server.works_on()


def it_comes_back_when_the_connection_is_refused(server: Server) -> None:
    """After an error without an id the connection is over, and is made again"""
    server.asked("fetch")
    server.line.send({"id": None, "error": {"code": "busy", "message": "too many clients", "hint": None}})
    server.line.close()
    server.line = server.accept()
    server.works_on()


def it_leaves_when_told(server: Server) -> None:
    """SIGTERM ends it with status 0: at once while it waits, else after its job"""
    job = server.give({"do": "sleep", "seconds": 0.5})
    server.process.send_signal(signal.SIGTERM)
    while (request := server.line.receive() or {}).get("op") == "extend":
        server.reply(request, {"token": job["token"], "lease_s": 60.0, "until_at": None, "jobs": [1], "cancelled": []})
    must(request.get("op") in ("ack", "release"), f"it asked {request.get('op')} of the job that it had")
    server.reply(
        request, {"id": job["id"], "queue": job["queue"], "state": "completed", "repeated": False, "done": [1]}
    )
    try:
        must(server.process.wait(PATIENCE_S) == 0, f"it ended with status {server.process.returncode}")
    except subprocess.TimeoutExpired:
        fault(f"it did not end within {PATIENCE_S:g} s")


CONSUMER_CASES: tuple[Callable[[Server], None], ...] = (
    it_gives_results_back, it_reads_frames_in_pieces, it_reports_failures, it_asks_again_when_nothing_came,
    it_extends_its_lease, it_hears_of_a_cancel, it_drops_what_is_stale, it_asks_again_when_busy,
    it_repeats_a_fetch_whose_answer_was_lost, it_repeats_an_ack_whose_answer_was_lost,
    it_comes_back_when_the_connection_is_refused, it_leaves_when_told,
)  # fmt: skip


# -- a server, against a client that knows the protocol alone ------------------------------------------------------


class Asking:
    """A client of a server, with a queue of its own."""

    def __init__(self, path: str, queue: str) -> None:
        self.path = path
        self.queue = queue
        self.count = 0
        self.line = self.connect()

    def connect(self) -> Line:
        """Another connection."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(self.path)
        return Line(sock)

    def send(self, op: str, *, piecewise: bool = False, **members: Any) -> int:
        """Ask, and do not wait."""
        self.count += 1
        self.line.send({"id": self.count, "op": op, **members}, piecewise=piecewise)
        return self.count

    def reply(self) -> Message:
        """The next reply."""
        found = self.line.receive()
        if found is None:
            fault("it closed the connection")
        must(("ok" in found) != ("error" in found), "a reply is neither an answer nor an error")
        return found

    def ask(self, op: str, **members: Any) -> Message:
        """What is answered."""
        number = self.send(op, **members)
        found = self.reply()
        must(found["id"] == number, f"{op} was answered under another id")
        if "error" in found:
            fault(f"{op} was refused: {found['error']}")
        return dict(found["ok"])

    def refused(self, code: str, op: str, **members: Any) -> None:
        """It must be refused in this way, and the connection go on."""
        self.send(op, **members)
        found = self.reply()
        said = found.get("error", {}).get("code")
        must(said == code, f"{op} gave {said or found.get('ok')}, and should have been refused with {code}")

    def put(self, *payloads: Any) -> list[int]:
        """Enqueue; the ids."""
        jobs = [{"payload": payload} for payload in payloads]
        return list(self.ask("enqueue", queue=self.queue, key=new_key(), jobs=jobs)["ids"])

    def fetch(self, **members: Any) -> Message:
        """Fetch from the queue."""
        return self.ask("fetch", queue=self.queue, **{"lease_ms": 60_000, "wait_ms": 5_000, **members})

    def ack(self, job: Message) -> None:
        """Done."""
        self.ask("ack", job=job["id"], token=job["token"])

    def empty(self) -> None:
        """Nothing of an earlier case is left."""
        for each in self.ask("consumers")["consumers"]:
            if each["queue"] == self.queue and each["token"] is not None:
                self.ask("release", token=each["token"])
        while found := self.fetch(jobs_max=256, wait_ms=0)["jobs"]:
            for job in found:
                self.ack(job)


def new_key() -> str:
    """A key that nobody has used."""
    return uuid.uuid4().hex


def it_says_who_it_is(client: Asking) -> None:
    """`hello` names version 1 of the protocol"""
    must(client.ask("hello").get("protocol") == 1, "hello names another version")


def it_reads_requests_in_pieces(client: Asking) -> None:
    """A request may come byte by byte, and several in one piece"""
    client.send("hello", piecewise=True)
    client.reply()
    client.line.send({"id": 900, "op": "hello"}, {"id": 901, "op": "hello"})
    must({client.reply()["id"], client.reply()["id"]} == {900, 901}, "two requests in one piece were not both answered")


def it_refuses_what_it_does_not_know(client: Asking) -> None:
    """Unknown operations and members, and wrong values, are refused by their codes"""
    client.refused("protocol", "frobnicate")
    client.refused("usage", "fetch", queue=client.queue, more=1)
    client.refused("usage", "fetch", queue=client.queue, jobs_max=0)
    client.refused("usage", "ack", job=1)
    client.refused("unknown_queue", "fetch", queue="no-such-queue")


def it_ends_a_connection_that_sends_no_frames(client: Asking) -> None:
    """A frame of an impossible length is answered with an error without an id, and the end"""
    line = client.connect()
    line.sock.sendall(b"\0\0\0\0")
    found = line.receive() or {}
    must(found.get("id", 0) is None and found.get("error", {}).get("code") == "protocol", "no error of the connection")
    must(line.receive() is None, "the connection was not closed")


def it_answers_all_after_a_shutdown(client: Asking) -> None:
    """A client that sends no more gets every reply, then the end"""
    line = client.connect()
    line.send({"id": 1, "op": "hello"}, {"id": 2, "op": "hello"})
    line.sock.shutdown(socket.SHUT_WR)
    must({(line.receive() or {}).get("id") for _ in range(2)} == {1, 2}, "a reply is missing")
    must(line.receive() is None, "the connection was not closed")


def it_enqueues_once_for_a_key(client: Asking) -> None:
    """A group that is sent again under its key is not enqueued again"""
    group = {"queue": client.queue, "key": new_key(), "jobs": [{"payload": 1}, {"payload": 2}]}
    first, again = client.ask("enqueue", **group), client.ask("enqueue", **group)
    must(first["ids"] == again["ids"] and again["repeated"], "it was enqueued twice")


def it_lends_in_order(client: Asking) -> None:
    """Jobs are lent in order, byte for byte, under one token that grows"""
    payloads = [{"n": 1}, "\u00e4\U0001f600", [1.5, None]]
    ids = client.put(*payloads)
    found = client.fetch(jobs_max=2)
    must([job["id"] for job in found["jobs"]] == ids[:2], "other jobs were lent, or in another order")
    must([job["payload"] for job in found["jobs"]] == payloads[:2], "a payload is another one")
    must({job["token"] for job in found["jobs"]} == {found["token"]}, "the jobs of a lease have several tokens")
    must(client.fetch()["token"] > found["token"], "a later lease has no higher token")


def it_lends_the_same_for_a_key(client: Asking) -> None:
    """A fetch that is asked again under its key gives the same lease"""
    client.put(1, 2)
    key = new_key()
    first, again = client.fetch(key=key), client.fetch(key=key)
    must(first["token"] == again["token"] and again["repeated"], "another lease was given")
    must([job["id"] for job in first["jobs"]] == [job["id"] for job in again["jobs"]], "other jobs were given")


def it_answers_a_fetch_when_a_job_comes(client: Asking) -> None:
    """A fetch that waits holds up nothing else, and is answered by the job that comes"""
    waiting = client.send("fetch", queue=client.queue, wait_ms=10_000, lease_ms=60_000)
    asked = client.send("hello")
    must(client.reply()["id"] == asked, "a fetch that waits holds up what is asked behind it")
    put = client.send("enqueue", queue=client.queue, key=new_key(), jobs=[{"payload": 1}])
    found = {reply["id"]: reply for reply in (client.reply(), client.reply())}
    must(found.keys() == {waiting, put}, "the fetch was not answered")
    must([job["id"] for job in found[waiting]["ok"]["jobs"]] == found[put]["ok"]["ids"], "another job was lent")


def it_answers_a_fetch_when_nothing_comes(client: Asking) -> None:
    """A fetch is answered with no jobs after its wait"""
    began_ms = boot_ms()
    must(client.fetch(wait_ms=200)["jobs"] == [], "jobs were lent where there are none")
    must(boot_ms() - began_ms >= 200, "it was answered before its time")


def it_settles(client: Asking) -> None:
    """`ack` completes, `fail` fails, and an ack that is repeated changes nothing"""
    good, bad = client.put(1, 2)
    token = client.fetch(jobs_max=2)["token"]
    must(client.ask("ack", job=good, token=token, result={"a": 1})["state"] == "completed", "ack did not complete")
    must(client.ask("ack", job=good, token=token)["repeated"], "a repeated ack is not said to be one")
    must(client.ask("job", job=good)["result"] == {"a": 1}, "the result is another one")
    said = client.ask("fail", job=bad, token=token, message="no", type="No", final=True)
    must(said["state"] == "dead", "a final failure did not end the job")
    must(client.ask("job", job=bad)["errors"][-1]["type"] == "No", "the type of the error is not kept")


def it_takes_back_what_is_released(client: Asking) -> None:
    """`release` gives jobs back to their places, uncharged"""
    ids = client.put(1, 2)
    token = client.fetch(jobs_max=2)["token"]
    must(client.ask("release", token=token, ids=ids[1:])["done"] == ids[1:], "another job was released")
    client.ask("release", token=token)
    found = client.fetch(jobs_max=2)["jobs"]
    must([job["id"] for job in found] == ids, "they are not where they were")
    must({job["attempt"] for job in found} == {1}, "an attempt was charged")


def it_fences(client: Asking) -> None:
    """After its end a lease changes nothing: all that names it is refused as `stale`"""
    (job_id,) = client.put(1)
    job = client.fetch(lease_ms=100)["jobs"][0]
    again = client.fetch(wait_ms=10_000)["jobs"]
    if not again:  # its retry may be later than we wait
        must(client.ask("job", job=job_id)["failures"] == 1, "the lease did not run out")
    client.refused("stale", "extend", token=job["token"])
    client.refused("stale", "ack", job=job_id, token=job["token"])
    client.refused("stale", "fail", job=job_id, token=job["token"], message="late")
    client.refused("stale", "release", token=job["token"])
    must(client.ask("job", job=job_id)["errors"][-1]["kind"] == "timeout", "it is not charged as a timeout")


def it_extends(client: Asking) -> None:
    """`extend` holds a lease longer, and says what was cancelled"""
    client.put(1)
    job = client.fetch(lease_ms=300)["jobs"][0]
    held = client.ask("extend", token=job["token"], lease_ms=60_000)
    must(held["jobs"] == [job["id"]] and held["cancelled"] == [], "it holds something else")
    client.fetch(wait_ms=600)
    client.ask("cancel", ids=[job["id"]])
    must(client.ask("extend", token=job["token"])["cancelled"] == [job["id"]], "a cancel is not told")
    must(client.ask("fail", job=job["id"], token=job["token"], message="stopped")["state"] == "cancelled", "not ended")


def it_enqueues_with_a_completion(client: Asking) -> None:
    """What stands in `enqueue` comes into being with the completion, or nothing does"""
    client.put("parent")
    job = client.fetch()["jobs"][0]
    of = {"job": job["id"], "token": job["token"]}
    children = [{"queue": client.queue, "payload": "child"}, {"queue": "no-such-queue"}]
    client.refused("unknown_queue", "ack", **of, enqueue=children)
    must(client.fetch(wait_ms=0)["jobs"] == [], "a job was enqueued by an ack that was refused")
    client.ask("ack", **of, enqueue=children[:1])
    must(client.fetch()["jobs"][0]["payload"] == "child", "the job was not enqueued")


SERVER_CASES: tuple[Callable[[Asking], None], ...] = (
    it_says_who_it_is, it_reads_requests_in_pieces, it_refuses_what_it_does_not_know,
    it_ends_a_connection_that_sends_no_frames, it_answers_all_after_a_shutdown, it_enqueues_once_for_a_key,
    it_lends_in_order, it_lends_the_same_for_a_key, it_answers_a_fetch_when_a_job_comes,
    it_answers_a_fetch_when_nothing_comes, it_settles, it_takes_back_what_is_released, it_fences, it_extends,
    it_enqueues_with_a_completion,
)  # fmt: skip


# -- the program ---------------------------------------------------------------------------------------------------


@contextmanager
def _consumer(command: list[str]) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="jobsup-") as folder:
        server = Server(command, folder)
        try:
            yield server
        finally:
            server.end()


@contextmanager
def _client(path: str, queue: str) -> Iterator[Asking]:
    client = Asking(path, queue)
    try:
        client.empty()
        yield client
    finally:
        client.line.close()


def run(cases: tuple[Callable[[Any], None], ...], make: Callable[[], Any]) -> int:
    """Try each case; the exit status."""
    failed = 0
    for number, case in enumerate(cases, 1):
        said = (case.__doc__ or "").strip()
        try:
            with make() as other:
                case(other)
        except (NotConforming, OSError, KeyError, IndexError, TypeError) as error:
            failed += 1
            sys.stdout.write(f"not ok {number} - {said}\n#   {type(error).__name__}: {error}\n")
        else:
            sys.stdout.write(f"ok {number} - {said}\n")
        sys.stdout.flush()
    sys.stdout.write(f"1..{len(cases)}\n")
    return int(failed > 0)


@click.group()
def program() -> None:
    """Whether a consumer, or a server, speaks the protocol as docs/protocol.md has it."""


@program.command("consumer", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def consumer(command: tuple[str, ...]) -> None:
    """Run COMMAND for each case; it finds the socket in $JOBSUP_SOCKET."""
    sys.exit(run(CONSUMER_CASES, lambda: _consumer(list(command))))


@program.command("server")
@click.argument("path", metavar="SOCKET")
@click.argument("queue")
def server(path: str, queue: str) -> None:
    """Ask the server at SOCKET; QUEUE is one with `pull = true` that nobody else uses. Its jobs are used up."""
    sys.exit(run(SERVER_CASES, lambda: _client(path, queue)))


if __name__ == "__main__":
    program()
