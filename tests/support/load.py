"""A client that enqueues for as long as its standard input stays open, and writes down what it was told.

    python -m tests.support.load raw run/jobsup.sock acks/1 --queue q --payloads '[[1, {"do": "nothing"}]]'

Every acknowledgement becomes one line of ACKS.acks, `mode at_ns first_id count`, written after the reply was read. What
breaks is asked again with the same key. Modes: `raw` speaks the protocol by itself, `client` and `buffered` use
supervisor.client, `cli` runs `jobsctl enqueue` for each job, `lent` is a consumer too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PAUSE_S = 0.005
LINGER_S = 2


class Acks:
    """The file of acknowledgements."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(f"{path}.acks", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, ids: Iterable[int], mode: str) -> None:
        """Write down ids that were acknowledged; neighbours share a line."""
        at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        lines, first, count = [], 0, 0
        for job_id in ids:
            if count and job_id == first + count:
                count += 1
                continue
            if count:
                lines.append(f"{mode} {at_ns} {first} {count}\n")
            first, count = job_id, 1
        if count:
            lines.append(f"{mode} {at_ns} {first} {count}\n")
        os.write(self._fd, "".join(lines).encode())


def told_to_end() -> bool:
    """Whether standard input was closed."""
    return bool(select.select([0], [], [], 0)[0])


class RawClient:
    """The public protocol as docs/protocol.md has it, and nothing of ours."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._sock: socket.socket | None = None
        self._number = 0

    def ask(self, op: str, **members: Any) -> dict[str, Any]:
        """One request and its reply.

        Raises:
            OSError: the connection broke, or there is none.
        """
        self._number += 1
        body = json.dumps({"v": 1, "id": self._number, "op": op, **members}).encode()
        try:
            if self._sock is None:
                sock = socket.socket(socket.AF_UNIX)
                sock.settimeout(20)
                sock.connect(self._path)
                self._sock = sock
            self._sock.sendall(struct.pack(">I", len(body)) + body)
            while True:
                answer: dict[str, Any] = json.loads(self._read(struct.unpack(">I", self._read(4))[0]))
                if answer["id"] in (self._number, None):
                    return answer
        except OSError:
            self.close()
            raise

    def _read(self, count: int) -> bytes:
        assert self._sock is not None
        data = b""
        while len(data) < count:
            part = self._sock.recv(count - len(data))
            if not part:
                raise ConnectionResetError("the keeper closed the connection")
            data += part
        return data

    def close(self) -> None:
        """Close the connection; the next request makes another."""
        if self._sock:
            self._sock.close()
            self._sock = None


class Payloads:
    """Payloads by weight."""

    def __init__(self, listed: list[tuple[float, Any]], seed: int) -> None:
        self._weights = [weight for weight, _ in listed]
        self._values = [value for _, value in listed]
        self.chance = random.Random(seed)

    def some(self, count: int) -> list[Any]:
        """So many, chosen at random."""
        return self.chance.choices(self._values, self._weights, k=count)


def load_raw(options: argparse.Namespace, payloads: Payloads, acks: Acks) -> None:
    """Groups of random size, or those given, each until it is answered."""
    client = RawClient(options.place)
    given = itertools.cycle(options.groups)
    while not told_to_end():
        chosen = next(given, None) or payloads.some(payloads.chance.randint(1, options.group))
        jobs = [{"payload": payload} for payload in chosen]
        if payloads.chance.random() < options.delayed:
            jobs[0]["delay_ms"] = payloads.chance.randint(1, 40)
        request = {"queue": options.queue, "key": uuid.uuid4().hex, "jobs": jobs}
        while not told_to_end():
            try:
                answer = client.ask("enqueue", **request)
            except OSError:
                time.sleep(PAUSE_S)
                continue
            if "ok" in answer:
                acks.note(answer["ok"]["ids"], answer["ok"]["acknowledged"])
                break
            client.close()
            time.sleep(PAUSE_S)
        time.sleep(options.pause_ms / 1000)


def load_client(options: argparse.Namespace, payloads: Payloads, acks: Acks) -> None:
    """Client.insert, which says how it was acknowledged."""
    from supervisor.client import Client
    from supervisor.errors import JobsupError

    with Client(**place_of(options.place), timeout=20) as client:
        while not told_to_end():
            jobs = [{"payload": payload} for payload in payloads.some(payloads.chance.randint(1, options.group))]
            try:
                answer = client.insert(options.queue, jobs)
                acks.note(answer["ids"], answer["acknowledged"])
            except JobsupError:
                time.sleep(PAUSE_S)
            time.sleep(options.pause_ms / 1000)


def load_buffered(options: argparse.Namespace, payloads: Payloads, acks: Acks) -> None:
    """A buffered Client: what its receipts give an id for was acknowledged, in the daemon's mode."""
    from supervisor.client import Client
    from supervisor.errors import JobsupError

    with Client(**place_of(options.place), timeout=20, buffered=True, flush_jobs=50) as client:
        while not told_to_end():
            receipts = [client.enqueue(options.queue, payload) for payload in payloads.some(100)]
            for receipt in receipts:
                try:
                    acks.note([receipt.id()], options.acknowledged)
                except JobsupError:
                    continue
            try:
                client.flush()
            except JobsupError:
                time.sleep(PAUSE_S)
            time.sleep(options.pause_ms / 1000)


def load_cli(options: argparse.Namespace, payloads: Payloads, acks: Acks) -> None:
    """`jobsctl enqueue --json`, a process for each job."""
    place = ["-c", options.place] if options.place.endswith(".toml") else []
    env = os.environ | ({} if place else {"JOBSUP_SOCKET": options.place})
    while not told_to_end():
        command = [sys.executable, "-m", "supervisor.cli.jobsctl", *place, "enqueue", options.queue, "-", "--json"]
        text = json.dumps(payloads.some(1)[0])
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, env=env)
        if done.returncode == 0:
            answer = json.loads(done.stdout)
            acks.note([answer["id"]], answer["acknowledged"])


def load_lent(options: argparse.Namespace, payloads: Payloads, acks: Acks) -> None:
    """A consumer of a queue with `pull`, which enqueues there, too; its runs stand in $LEDGER, as those of workers."""
    client = RawClient(options.place)
    while True:
        over = told_to_end()
        request = {"queue": options.queue, "key": uuid.uuid4().hex, "jobs": [{"payload": payloads.some(1)[0]}]}
        if not over:
            made = answer_of(client, "enqueue", **request)
            if made is None:
                return
            acks.note(made["ids"], made["acknowledged"])
        asked = {"queue": options.queue, "jobs_max": 10, "lease_ms": 600_000, "key": uuid.uuid4().hex}
        held = answer_of(client, "fetch", wait_ms=0 if over else 500, **asked)
        if held is None or (over and not held["jobs"]):
            return
        for job in held["jobs"]:
            note_run("S", job["id"], held["token"])
            note_run("E", job["id"], held["token"])
            answer_of(client, "ack", job=job["id"], token=held["token"])
        time.sleep(options.pause_ms / 1000)


def answer_of(client: RawClient, op: str, **members: Any) -> Any:
    """Ask until it is answered, a little beyond the end of standard input; None if nobody answers."""
    told_at = None
    while told_at is None or time.monotonic() < told_at + LINGER_S:
        told_at = time.monotonic() if told_at is None and told_to_end() else told_at
        try:
            answer = client.ask(op, **members)
            if "ok" in answer:
                return answer["ok"]
            assert answer["error"]["code"] == "busy", answer
        except OSError:
            pass
        time.sleep(PAUSE_S)
    return None


def note_run(kind: str, job_id: int, token: int) -> None:
    """One line of the ledger, as handlers write them."""
    at_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(fd, f"{kind} {job_id} {token} {os.getpid()} {at_ns}\n".encode())
    os.close(fd)


def place_of(place: str) -> dict[str, str]:
    """How a Client is told where the daemon is."""
    return {"config": place} if place.endswith(".toml") else {"socket": place}


MODES: dict[str, Callable[[argparse.Namespace, Payloads, Acks], None]] = {
    "raw": load_raw,
    "client": load_client,
    "buffered": load_buffered,
    "cli": load_cli,
    "lent": load_lent,
}


def main() -> None:
    """Load until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("place", help="the socket, or the configuration")
    parser.add_argument("acks", type=Path)
    parser.add_argument("--queue", default="q")
    parser.add_argument("--payloads", type=json.loads, default=[[1, {"do": "nothing"}]])
    parser.add_argument("--group", type=int, default=10)
    parser.add_argument("--groups", type=json.loads, default=[], help="`raw`: these groups, again and again")
    parser.add_argument("--pause-ms", type=float, default=0)
    parser.add_argument("--delayed", type=float, default=0, help="the part of groups whose first job is due later")
    parser.add_argument("--acknowledged", default="committed", help="what the daemon's mode is, for `buffered`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    MODES[options.mode](options, Payloads(options.payloads, options.seed), Acks(options.acks))


if __name__ == "__main__":
    main()
