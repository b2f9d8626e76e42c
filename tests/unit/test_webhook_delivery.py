"""Deliveries to real servers on the loopback interface: plain, over TLS, slow, broken and hostile ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from supervisor.handlers import webhook
from supervisor.handlers.webhook import DeliveryFailed
from supervisor.job import Dead, Job

SECRET = b"a secret of the test"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Received(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """A real HTTP server that records what it gets and answers as told."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.status, self.answer, self.fields = 200, b"thank you", dict[str, str]()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                fields = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.command, self.path, fields, body))
                self.send_response(receiver.status)
                for name, value in receiver.fields.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

            do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def log_message(self, *_: Any) -> None: ...

        return Handler

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@contextmanager
def raw_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection that does as `serve` says, for answers that no HTTP library gives."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    monkeypatch.setenv(webhook.SECRET_FILE, str(tmp_path / "secret"))
    monkeypatch.setenv(webhook.ALLOW_PRIVATE, "127.0.0.0/8")
    return monkeypatch


def a_job(url: str, body: Any = None, **members: Any) -> Job:
    enqueued_at = datetime(2026, 5, 1, tzinfo=UTC)
    return Job(id=12, queue="webhook", payload={"url": url, "body": body, **members}, enqueued_at=enqueued_at)


def test_a_delivery_arrives_signed_and_says_what_came_back(receiver: Receiver) -> None:
    body = {"event": "paid", "amount": 12.5, "to": "Grüße", "list": [None, True]}
    before = int(time.time())
    result = webhook.deliver(a_job(f"http://127.0.0.1:{receiver.port}/in?x=1", body, headers={"X-Tenant": "a b"}))
    (got,) = receiver.received
    assert (got.method, got.path, json.loads(got.body)) == ("POST", "/in?x=1", body)
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert (got.headers["content-type"], got.headers["x-tenant"]) == ("application/json", "a b")
    assert before <= int(got.headers["webhook-timestamp"]) <= int(time.time())
    assert got.headers["webhook-id"] == "job-12-1777593600000"
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert isinstance(result, dict)
    assert (result["status"], result["bytes"]) == (200, len(b"thank you"))
    assert 0 <= result["duration_ms"] < 10_000


@pytest.mark.parametrize("method", webhook.METHODS)
def test_the_payload_chooses_among_the_methods(method: str, receiver: Receiver) -> None:
    webhook.deliver(a_job(f"http://127.0.0.1:{receiver.port}/", method=method))
    assert receiver.received[0].method == method


def test_the_payload_may_set_the_content_type(receiver: Receiver) -> None:
    job = a_job(f"http://127.0.0.1:{receiver.port}/", headers={"Content-Type": "application/cloudevents+json"})
    webhook.deliver(job)
    assert receiver.received[0].headers["content-type"] == "application/cloudevents+json"


def test_a_large_body_arrives_whole(receiver: Receiver) -> None:
    body = "x" * 1_000_000
    webhook.deliver(a_job(f"http://127.0.0.1:{receiver.port}/", body))
    assert json.loads(receiver.received[0].body) == body


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_server_that_may_recover_is_tried_again(status: int, receiver: Receiver) -> None:
    receiver.status, receiver.answer = status, b"come back"
    with pytest.raises(DeliveryFailed, match=f"127.0.0.1 answered {status}: come back"):
        webhook.deliver(a_job(f"http://127.0.0.1:{receiver.port}/"))


def test_a_refusal_by_the_receiver_is_final(receiver: Receiver) -> None:
    receiver.status, receiver.answer = 404, b"no such hook"
    outcome = webhook.deliver(a_job(f"http://127.0.0.1:{receiver.port}/"))
    assert outcome == Dead("127.0.0.1 answered 404: no such hook")


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status, receiver.fields = 302, {"Location": f"http://127.0.0.1:{receiver.port}/other"}
    outcome = webhook.deliver(a_job(f"http://127.0.0.1:{receiver.port}/first"))
    assert isinstance(outcome, Dead)
    assert "redirects are not followed" in outcome.reason
    assert [got.path for got in receiver.received] == ["/first"]


def test_a_private_address_is_refused_before_anything_is_sent(receiver: Receiver, settings: pytest.MonkeyPatch) -> None:
    settings.delenv(webhook.ALLOW_PRIVATE)
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0"):
        outcome = webhook.deliver(a_job(f"http://{host}:{receiver.port}/"))
        assert isinstance(outcome, Dead), host
        assert "not a public address" in outcome.reason
    assert receiver.received == []


def test_the_address_that_was_checked_is_the_one_connected_to(receiver: Receiver, settings: pytest.MonkeyPatch) -> None:
    answers = iter(["127.0.0.1", "127.0.0.2"])
    asked = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    settings.setattr(socket, "getaddrinfo", resolve)
    settings.setenv(webhook.ALLOW_PRIVATE, "127.0.0.1/32")
    assert isinstance(webhook.deliver(a_job(f"http://rebind.example:{receiver.port}/")), dict)
    assert asked == ["rebind.example"]
    assert receiver.received[0].headers["host"] == f"rebind.example:{receiver.port}"
    refused = webhook.deliver(a_job(f"http://rebind.example:{receiver.port}/"))
    assert isinstance(refused, Dead)
    assert "is at 127.0.0.2" in refused.reason


def test_of_several_addresses_the_next_permitted_one_is_tried(receiver: Receiver, settings: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.3", 0)) as closed:
        dead_port = closed.getsockname()[1]
    entries = [("10.0.0.1", receiver.port), ("127.0.0.3", dead_port), ("127.0.0.1", receiver.port)]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", entry) for entry in entries]
    settings.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert isinstance(webhook.deliver(a_job("http://many.example/")), dict)


def test_a_name_that_does_not_resolve_is_tried_again(settings: pytest.MonkeyPatch) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    settings.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(DeliveryFailed, match=r"h\.example: .*Temporary failure"):
        webhook.deliver(a_job("https://h.example/"))


def test_a_refused_connection_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DeliveryFailed, match="Connection refused"):
        webhook.deliver(a_job(f"http://127.0.0.1:{port}/"))


@pytest.mark.parametrize(
    "answer",
    [b"", b"garbage\r\n\r\n", b"HTTP/1.", b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 70_000 + b"\r\n\r\n"],
    ids=["nothing", "garbage", "half a line", "an endless header"],
)
def test_an_answer_that_is_no_http_is_tried_again(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with raw_server(serve) as port, pytest.raises(DeliveryFailed):
        webhook.deliver(a_job(f"http://127.0.0.1:{port}/"))


def test_a_server_that_never_answers_is_left_at_the_time_out(settings: pytest.MonkeyPatch) -> None:
    settings.setenv(webhook.TIMEOUT, "0.2")
    with raw_server(_drain) as port, pytest.raises(DeliveryFailed, match="time"):
        webhook.deliver(a_job(f"http://127.0.0.1:{port}/"))


def test_a_server_that_answers_byte_by_byte_is_left_at_the_time_out(settings: pytest.MonkeyPatch) -> None:
    settings.setenv(webhook.TIMEOUT, "0.5")

    def drip(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.settimeout(0.02)
        connection.send(b"HTTP/1.1 200 OK\r\nx: ")
        for _ in range(2000):
            try:
                connection.send(b"y")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    started = time.monotonic()
    with raw_server(drip) as port, pytest.raises(DeliveryFailed, match=r"total time-out|timed out"):
        webhook.deliver(a_job(f"http://127.0.0.1:{port}/"))
    assert time.monotonic() - started < 5


def test_an_endless_answer_is_read_to_its_limit_only() -> None:
    def flood(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(b"z" * 65536)
        except OSError:
            pass

    with raw_server(flood) as port:
        result = webhook.deliver(a_job(f"http://127.0.0.1:{port}/"))
    assert isinstance(result, dict)
    assert result["bytes"] == webhook.ANSWER_BYTES_MAX


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n5\r\nx",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ],
)
def test_once_the_receiver_said_yes_a_broken_body_changes_nothing(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    with raw_server(serve) as port:
        result = webhook.deliver(a_job(f"http://127.0.0.1:{port}/"))
    assert isinstance(result, dict)


class Identity(NamedTuple):
    key: Path
    certificate: Path


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """A self-signed certificate for hooks.test, made by openssl for this run."""
    folder = tmp_path_factory.mktemp("tls")
    made = Identity(folder / "key.pem", folder / "certificate.pem")
    subject = ["-subj", "/CN=hooks.test", "-addext", "subjectAltName=DNS:hooks.test"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    where = ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(["openssl", "req", "-x509", *curve, *subject, *where], check=True, capture_output=True)
    return made


@pytest.fixture
def secure(identity: Identity, settings: pytest.MonkeyPatch) -> Iterator[tuple[Receiver, list[str | None]]]:
    """A TLS server, the names that clients asked it for, and names that resolve to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    names: list[str | None] = []
    context.sni_callback = lambda _, name, __: names.append(name)
    receiver = Receiver(context)
    address = ("127.0.0.1", receiver.port)
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]
    settings.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    yield receiver, names
    receiver.close()


def test_https_asks_for_the_name_and_verifies_it(
    secure: tuple[Receiver, list[str | None]], identity: Identity, settings: pytest.MonkeyPatch
) -> None:
    receiver, names = secure
    settings.setenv("SSL_CERT_FILE", str(identity.certificate))
    result = webhook.deliver(a_job("https://hooks.test/in", {"a": 1}))
    assert isinstance(result, dict)
    assert names == ["hooks.test"]
    assert receiver.received[0].headers["host"] == "hooks.test"


def test_https_to_a_stranger_sends_nothing(secure: tuple[Receiver, list[str | None]]) -> None:
    with pytest.raises(DeliveryFailed, match="certificate verify failed"):
        webhook.deliver(a_job("https://hooks.test/in"))
    assert secure[0].received == []


def test_https_to_a_host_of_another_name_sends_nothing(
    secure: tuple[Receiver, list[str | None]], identity: Identity, settings: pytest.MonkeyPatch
) -> None:
    settings.setenv("SSL_CERT_FILE", str(identity.certificate))
    with pytest.raises(DeliveryFailed, match="Hostname mismatch"):
        webhook.deliver(a_job("https://other.test/in"))
    assert secure[0].received == []


def _drain(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass
