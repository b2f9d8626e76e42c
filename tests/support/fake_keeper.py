"""A keeper without a database, on the product's own server: answers as docs/protocol.md says, fails when told to.

In a test it runs on a thread (`FakeKeeper(path)`); as a program it stands in for `jobsupd --one-shot`.
"""

from __future__ import annotations

import argparse
import os
import selectors
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import msgspec

from supervisor.errors import JobsupError, ProtocolError, QueueFull, UnknownJob, UnknownQueue, WaitTimeout, WrongState
from supervisor.unix.clock import boot_ms
from supervisor.wire import messages
from supervisor.wire.connection import Connection
from supervisor.wire.server import Server

QUEUES = ("emails", "reports")
MAX_PAYLOAD_BYTES = 1024 * 1024
FINAL = ("completed", "dead", "cancelled")

LOSE_REQUEST = "the connection breaks before the request is looked at"
LOSE_REPLY = "it is carried out, and the connection breaks before the answer"
KEEP_SILENT = "it is carried out, and no answer comes"
BUSY = "it is refused as busy"
BUSY_AT_THE_DOOR = "the connection is refused as busy"
REFUSED_AT_THE_DOOR = "the connection is refused for good"
GARBAGE = "the answer is no frame"
NOT_JSON = "the answer is a frame that is not JSON"
OTHER_VERSION = "the answer is of another version"
NEITHER = "the answer is neither ok nor error"
ANOTHER_FIRST = "the answer to some other request comes first"


class FakeKeeper:
    """Serves until closed. `faults` are used up one by one, by the requests that come; None: no fault."""

    def __init__(self, path: str | None = None, *, adopt: socket.socket | None = None) -> None:
        self.jobs: dict[int, dict[str, Any]] = {}
        self.seen: list[messages.AnyRequest] = []
        self.faults: deque[str | None] = deque()
        self._keys: dict[str, dict[str, Any]] = {}
        self._waiting: list[tuple[int, Connection, messages.Wait]] = []
        self._todo: deque[Callable[[], object]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, lambda _: self._drain())
        self.server = Server([listen(path)] if path else [], self._selector, boot_ms)
        self.adopted = self.server.adopt(adopt) if adopt else None
        self._ending = False
        self._thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the loop and every connection."""
        self._ending = True
        self._wake.send(b"x")
        self._thread.join()
        self.server.close()
        for each in (self._wake, self._woken, self._selector):
            each.close()

    def do(self, work: Callable[[], object]) -> None:
        """Have the loop's thread do something, and wait until it has."""
        done = threading.Event()
        self._todo.append(lambda: (work(), done.set()))
        self._wake.send(b"x")
        assert done.wait(10)

    def finish(self, job_id: int, state: str = "completed") -> None:
        """Bring a job to an end."""
        self.do(lambda: self.jobs[job_id].update(state=state))

    def break_connections(self) -> None:
        """Close every connection, as a keeper that dies does."""
        self.do(lambda: [connection.close() for connection in self.server])

    def run(self) -> None:
        """The loop."""
        while not self._ending and not (self.adopted and self.adopted.closed):
            deadlines = [at for at, *_ in self._waiting]
            deadlines += [at for at in [self.server.next_deadline_ms()] if at is not None]
            timeout = max(min(deadlines) - boot_ms(), 0) / 1000 if deadlines else None
            for key, mask in self._selector.select(timeout):
                key.data(mask)
            while self._todo:
                self._todo.popleft()()
            while self.server.requests:
                self._serve(*self.server.requests.popleft())
            self._answer_waiting()
            self.server.flush()
            self.server.tick(boot_ms())

    def _drain(self) -> None:
        try:
            self._woken.recv(1024)
        except BlockingIOError:
            pass

    def _serve(self, connection: Connection, frame: bytes) -> None:
        fault = self.faults.popleft() if self.faults else None
        if fault == LOSE_REQUEST:
            connection.close()
            return
        try:
            request = messages.decode(frame)
            self.seen.append(request)
            if fault == BUSY:
                raise messages_busy()
            if fault == BUSY_AT_THE_DOOR:
                connection.refuse(messages_busy())
                return
            if fault == REFUSED_AT_THE_DOOR:
                connection.refuse(ProtocolError("told to refuse"))
                return
            ok = self._carry_out(connection, request)
        except JobsupError as error:
            request_id = messages.request_id(frame)
            if request_id is None:
                connection.refuse(error)
            else:
                connection.post(messages.failure(request_id, error))
            return
        if ok is not None:
            self._reply(connection, request.id, ok, fault)

    def _reply(self, connection: Connection, request_id: int, ok: dict[str, Any], fault: str | None) -> None:
        body = messages.reply(request_id, ok)
        if fault == LOSE_REPLY:
            connection.close()
        elif fault == NOT_JSON:
            connection.send(b"hello")
        elif fault == OTHER_VERSION:
            connection.send(body.replace(b'"v":1', b'"v":2'))
        elif fault == NEITHER:
            connection.send({"v": 1, "id": request_id})
        elif fault == GARBAGE:
            connection._sock.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()
        elif fault == ANOTHER_FIRST:
            connection.send(messages.reply(request_id + 1000, {"not": "yours"}))
            connection.send(body)
        elif fault != KEEP_SILENT:
            connection.post(body)

    def _carry_out(self, connection: Connection, request: messages.AnyRequest) -> dict[str, Any] | None:
        match request:
            case messages.Enqueue():
                return self._enqueue(request)
            case messages.JobStatus():
                return self._job(request.job)
            case messages.Wait():
                self._job(request.job)
                self._waiting.append((boot_ms() + request.timeout_ms, connection, request))
                return None
            case messages.Cancel() | messages.Retry():
                return self._change(request)
            case messages.Hello():
                return {"version": "0", "pid": os.getpid(), "protocol": 1, "queues": list(QUEUES), "uptime_s": 1.0}
            case messages.Status():
                return {"daemon": {"running": True}, "queues": {}}
        return {"count": 0}

    def _enqueue(self, request: messages.Enqueue) -> dict[str, Any]:
        if request.queue == "full":
            raise QueueFull("queue full holds 9 waiting jobs and takes at most 9 (max_size)")
        if request.queue not in QUEUES:
            raise UnknownQueue(f"there is no queue {request.queue}", hint="look at status")
        if request.key in self._keys:
            return {**self._keys[request.key], "repeated": True}
        payloads = [bytes(job.payload) for job in request.jobs]
        for payload in payloads:
            messages.check_payload(payload, MAX_PAYLOAD_BYTES, request.queue)
        ids = []
        for job, payload in zip(request.jobs, payloads, strict=True):
            job_id = len(self.jobs) + 1
            ids.append(job_id)
            options = {name: getattr(job, name) for name in job.__struct_fields__ if name != "payload"}
            self.jobs[job_id] = {"id": job_id, "queue": request.queue, "state": "queued", "payload": payload, **options}
        ok = {"ids": ids, "states": ["queued"] * len(ids), "acknowledged": "committed", "repeated": False}
        ok["existing"] = []
        self._keys[request.key] = ok
        return ok

    def _job(self, job_id: int) -> dict[str, Any]:
        if job_id not in self.jobs:
            raise UnknownJob(f"there is no job {job_id}")
        job = self.jobs[job_id]
        return {**job, "payload": msgspec.json.decode(job["payload"])}

    def _change(self, request: messages.Cancel | messages.Retry) -> dict[str, Any]:
        done, failed = [], []
        for job_id in request.ids:
            try:
                final = self._job(job_id)["state"] in FINAL
                if final == isinstance(request, messages.Cancel):
                    raise WrongState(f"job {job_id} is {self.jobs[job_id]['state']}")
                self.jobs[job_id]["state"] = "cancelled" if isinstance(request, messages.Cancel) else "queued"
                done.append(job_id)
            except JobsupError as error:
                failed.append({"id": job_id, "code": error.code, "message": error.message})
        return {"done": done, "failed": failed}

    def _answer_waiting(self) -> None:
        still = []
        for deadline_ms, connection, request in self._waiting:
            job = self._job(request.job)
            if job["state"] in FINAL:
                connection.send(messages.reply(request.id, job))
            elif deadline_ms <= boot_ms():
                connection.send(messages.failure(request.id, WaitTimeout(f"job {request.job} is {job['state']}")))
            elif not connection.closed:
                still.append((deadline_ms, connection, request))
        self._waiting = still


def messages_busy() -> JobsupError:
    """A refusal that says: try again."""
    from supervisor.errors import Busy

    return Busy("told to be busy")


def listen(path: str) -> socket.socket:
    """A listening socket at a path."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1024)
    return listener


def main() -> int:
    """`jobsupd --one-shot` as far as a client sees it; the configuration's file says how it behaves.

    `exit STATUS TEXT`: ends at once with the status, saying so on stderr; `serve FILE`: serves, and appends the
    payload of each job to FILE; `serve FILE DIE`: ends by a signal after the first request.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--one-shot", action="store_true", required=True)
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("-c", dest="config", required=True)
    parser.add_argument("--set", action="append")
    options = parser.parse_args()
    with open(options.config, encoding="utf-8") as file:
        verb, *words = file.readline().removeprefix("# ").split()
    if verb == "exit":
        print("a first line\n" + " ".join(words[1:]), file=sys.stderr)
        return int(words[0])
    keeper = FakeKeeper(adopt=socket.socket(fileno=options.fd))
    keeper.run()
    with open(words[0], "ab") as file:
        file.writelines(job["payload"] + b"\n" for job in keeper.jobs.values())
    return 0


if __name__ == "__main__":
    sys.exit(main())
