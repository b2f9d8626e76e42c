"""Deliver a job's payload as a signed HTTP POST: `handler = "supervisor.handlers.webhook:deliver"`.

The payload is `{"url", "body", "headers"?, "method"?}`; `body` is any JSON. The request is signed as the Standard
Webhooks specification says, so that a receiver can check it with a library it already has: `webhook-id` stays the
same through all attempts (receivers use it to ignore repeats), `webhook-timestamp` and `webhook-signature`.

A 2xx answer completes the job. What may pass (5xx, 408, 425, 429, a refused or broken connection, a time-out) is
raised, so the queue's attempts and backoff apply. What will not pass by itself ends in the dead letters.

*Invariant:* the address that is checked is the address that is connected to: a name is resolved once, so a second,
different answer of its name server is never used. Redirects are not followed, and no proxy is asked.

docs/deploy.md describes the settings, which are environment variables of the queue.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import io
import json
import math
import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from supervisor.job import Dead, Job

SECRET_FILE = "JOBSUP_WEBHOOK_SECRET_FILE"  # noqa: S105 - the name of a variable
ALLOW_PRIVATE = "JOBSUP_WEBHOOK_ALLOW_PRIVATE"
CONNECT_TIMEOUT = "JOBSUP_WEBHOOK_CONNECT_TIMEOUT_S"
TIMEOUT = "JOBSUP_WEBHOOK_TIMEOUT_S"

CONNECT_TIMEOUT_S = 5.0
TIMEOUT_S = 30.0
ANSWER_BYTES_MAX = 64 * 1024
SECRET_BYTES_MAX = 64 * 1024
EXCERPT_CHARACTERS = 200

METHODS = ("POST", "PUT", "PATCH", "DELETE")
MEMBERS = ("url", "body", "headers", "method")
PORTS = {"http": 80, "https": 443}
RETRIED = frozenset({408, 425, 429})
OURS = frozenset({"connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"})
"""Headers that frame the message; a payload that sets one could make the receiver see a second request."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
"""Written out, since what `ipaddress` calls global differs between patch releases of Python."""

PUBLIC_6 = IPv6Network("2000::/3")
"""All IPv6 that is public; outside it lie loopback, link-local, private, multicast, NAT64 and IPv4-mapped."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"[\t -~]*")


class Refused(Exception):
    """Trying again is of no use until someone changes something."""


class DeliveryFailed(Exception):
    """The receiver may take the message later."""


class Settings(NamedTuple):
    """What the environment says; several secrets sign side by side while one replaces another."""

    secrets: tuple[bytes, ...]
    allowed: tuple[Network, ...]
    connect_timeout_s: float
    timeout_s: float


class Message(NamedTuple):
    """A payload that can be delivered; `target` is path and query as they go on the request line."""

    secure: bool
    host: str
    port: int
    authority: str
    target: str
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Answer(NamedTuple):
    """What the receiver said; `body` is cut at `ANSWER_BYTES_MAX`."""

    status: int
    location: str | None
    body: bytes


def deliver(job: Job) -> dict[str, int] | Dead:
    """Deliver the job's payload; `bytes` in the result counts the answer's body as far as it was read.

    Raises:
        DeliveryFailed: no answer, or one that may be another later.
    """
    started_s = time.monotonic()
    try:
        settings = settings_from(os.environ)
        message = message_from(job.payload)
        signed = signature_headers(message_id(job), int(time.time()), message.body, settings.secrets)
        answer = _exchange(message, signed, settings, Deadline(settings.timeout_s))
        judge(answer, message.host)
    except Refused as refusal:
        return Dead(str(refusal))
    except (OSError, HTTPException) as error:
        raise DeliveryFailed(f"{message.host}: {str(error) or type(error).__name__}") from error
    return {
        "status": answer.status,
        "bytes": len(answer.body),
        "duration_ms": round((time.monotonic() - started_s) * 1000),
    }


def settings_from(environ: Mapping[str, str]) -> Settings:
    """The settings of the queue's environment.

    Raises:
        Refused: there is no usable secret, or a setting cannot be read.
    """
    return Settings(
        secrets=_secrets(environ.get(SECRET_FILE, "")),
        allowed=tuple(_networks(environ.get(ALLOW_PRIVATE, ""))),
        connect_timeout_s=_seconds(environ, CONNECT_TIMEOUT, CONNECT_TIMEOUT_S),
        timeout_s=_seconds(environ, TIMEOUT, TIMEOUT_S),
    )


def _secrets(path: str) -> tuple[bytes, ...]:
    if not path:
        raise Refused(f"no signing secret: set {SECRET_FILE} in the queue's env to a file that holds one")
    try:
        with open(path, "rb") as file:
            lines = file.read(SECRET_BYTES_MAX).split(b"\n")
    except OSError as error:
        raise Refused(f"no signing secret: {SECRET_FILE}={path} cannot be read: {error.strerror}") from error
    secrets = tuple(_key(line.strip()) for line in lines if line.strip())
    if not secrets:
        raise Refused(f"no signing secret: {SECRET_FILE}={path} is empty")
    return secrets


def _key(line: bytes) -> bytes:
    if not line.startswith(b"whsec_"):
        return line
    try:
        return base64.b64decode(line.removeprefix(b"whsec_"), validate=True)
    except binascii.Error as error:
        raise Refused(f"no signing secret: what follows whsec_ in the file of {SECRET_FILE} is not base64") from error


def _networks(text: str) -> Iterator[Network]:
    for part in text.replace(",", " ").split():
        try:
            yield ip_network(part, strict=False)
        except ValueError:
            raise Refused(f"{ALLOW_PRIVATE}: {part!r} is no address range such as 10.1.0.0/16") from None


def _seconds(environ: Mapping[str, str], name: str, default_s: float) -> float:
    text = environ.get(name, "")
    try:
        value_s = float(text) if text else default_s
    except ValueError:
        value_s = math.nan
    if not 0 < value_s < math.inf:
        raise Refused(f"{name}: {text!r} is no number of seconds above 0")
    return value_s


def message_from(payload: Any) -> Message:
    """The message that the payload describes.

    Raises:
        Refused: a member is missing, unknown or unusable; the text says which and why.
    """
    if not isinstance(payload, dict) or "url" not in payload or "body" not in payload:
        raise Refused('the payload must be an object with the members "url" and "body"')
    if unknown := sorted(payload.keys() - set(MEMBERS)):
        raise Refused(f"unknown payload member {unknown[0]!r}; known are {', '.join(MEMBERS)}")
    method = payload.get("method", "POST")
    if method not in METHODS:
        raise Refused(f"method: {method!r} is not one of {', '.join(METHODS)}")
    secure, host, port, authority, target = _located(payload["url"])
    headers = tuple(_checked_headers(payload.get("headers", {})))
    body = json.dumps(payload["body"], separators=(",", ":"), allow_nan=False).encode()
    return Message(secure, host, port, authority, target, method, headers, body)


def _located(url: Any) -> tuple[bool, str, int, str, str]:
    if not isinstance(url, str) or not url.isprintable() or " " in url:
        raise Refused("url: not text without spaces and control characters")
    try:
        parts = urlsplit(url)
        port = PORTS.get(parts.scheme) if parts.port is None else parts.port
        host = parts.hostname or ""
        if ":" not in host:
            host = host.encode("idna").decode("ascii")
    except ValueError as error:
        raise Refused(f"url: {error}") from error
    if parts.scheme not in PORTS or not host or not port:
        raise Refused("url: must begin with https:// or http:// and name a host")
    if "@" in parts.netloc:
        raise Refused("url: must not hold a user name or password; send an authorization header")
    if not re.fullmatch(r"[0-9A-Za-z._:-]+", host):
        raise Refused("url: the host is neither a name nor an address")
    named = f"[{host}]" if ":" in host else host
    authority = named if port == PORTS[parts.scheme] else f"{named}:{port}"
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
        "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]") if parts.query else ""
    )
    return parts.scheme == "https", host, port, authority, target


def _checked_headers(headers: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(headers, dict):
        raise Refused("headers: must be an object of texts")
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or not isinstance(value, str) or not _FIELD.fullmatch(value):
            raise Refused(f"headers: {name!r} is no header name with a value of printable ASCII text")
        if name.lower() in OURS or name.lower().startswith("webhook-"):
            raise Refused(f"headers: {name} is set by the delivery itself")
        yield name, value


def message_id(job: Job) -> str:
    """The same for every attempt of the job, and another for a job of the same number in another database."""
    if isinstance(job.enqueued_at, datetime):
        return f"job-{job.id}-{round(job.enqueued_at.timestamp() * 1000)}"
    return f"job-{job.id}"


def signature_headers(
    identity: str, timestamp: int, body: bytes, secrets: tuple[bytes, ...]
) -> tuple[tuple[str, str], ...]:
    """The three headers of Standard Webhooks: HMAC-SHA256 of `id.timestamp.body`, once for each secret."""
    signed = b"%s.%d.%s" % (identity.encode(), timestamp, body)
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return (
        ("webhook-id", identity),
        ("webhook-timestamp", str(timestamp)),
        ("webhook-signature", " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)),
    )


def permitted(address: Address, allowed: tuple[Network, ...]) -> bool:
    """Whether a message may go to this address: it is public, or lies in a range that the settings allow."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return _public(address) or any(
        face.version == network.version and face in network for face in (address, mapped) if face for network in allowed
    )


def _public(address: Address) -> bool:
    return (address.version == 4 or address in PUBLIC_6) and not any(address in network for network in NOT_PUBLIC)


class Deadline:
    """The moment by which the whole exchange must be over, however the receiver spreads its bytes."""

    def __init__(self, limit_s: float) -> None:
        self._at_s = time.monotonic() + limit_s

    def left_s(self) -> float:
        """What is left, above 0.

        Raises:
            TimeoutError: nothing is left.
        """
        left_s = self._at_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("not done within the total time-out")
        return left_s


def _exchange(message: Message, signed: tuple[tuple[str, str], ...], settings: Settings, deadline: Deadline) -> Answer:
    with _connect(message, settings, deadline) as connection:
        _send(connection, _request(message, signed), deadline)
        response = HTTPResponse(_Incoming(connection, deadline), method=message.method)  # type: ignore[arg-type]
        response.begin()
        return Answer(response.status, response.getheader("location"), _body(response))


def _connect(message: Message, settings: Settings, deadline: Deadline) -> socket.socket:
    # The resolver has time limits of its own (resolv.conf) and heeds no other; the queue's timeout bounds it too.
    found = socket.getaddrinfo(message.host, message.port, type=socket.SOCK_STREAM)
    usable = [entry for entry in found if permitted(ip_address(entry[4][0]), settings.allowed)]
    if not usable:
        where = ", ".join(sorted({str(entry[4][0]) for entry in found}))
        raise Refused(f"{message.host} is at {where}, not a public address; {ALLOW_PRIVATE} can allow its range")
    failure: OSError = ConnectionError("no address")
    for family, kind, protocol, _, address in usable:
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(min(settings.connect_timeout_s, deadline.left_s()))
            connection.connect(address)
            if message.secure:
                context = ssl.create_default_context()
                connection = context.wrap_socket(connection, server_hostname=message.host)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _request(message: Message, signed: tuple[tuple[str, str], ...]) -> bytes:
    fields = {"content-type": "application/json", "user-agent": "jobsup-webhook", "accept": "*/*"}
    fields |= {name.lower(): value for name, value in message.headers}
    fields |= {"host": message.authority, "content-length": str(len(message.body)), "connection": "close"}
    head = [f"{message.method} {message.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    head += [f"{name}: {value}" for name, value in signed]
    return ("\r\n".join(head) + "\r\n\r\n").encode("ascii") + message.body


def _send(connection: socket.socket, data: bytes, deadline: Deadline) -> None:
    rest = memoryview(data)
    while rest:
        connection.settimeout(deadline.left_s())
        rest = rest[connection.send(rest[:ANSWER_BYTES_MAX]) :]


class _Incoming(io.RawIOBase):
    """What `HTTPResponse` reads from: every read ends by the deadline."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(self._deadline.left_s())
        return self._connection.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def _body(response: HTTPResponse) -> bytes:
    """What comes of the body: the status has decided already, so a body that breaks off changes nothing."""
    try:
        return response.read(ANSWER_BYTES_MAX)
    except IncompleteRead as cut:
        return bytes(cut.partial)
    except (OSError, HTTPException):
        return b""


def judge(answer: Answer, host: str) -> None:
    """Return if the message is delivered.

    Raises:
        DeliveryFailed: the receiver may take it later.
        Refused: it will not.
    """
    if 200 <= answer.status < 300:
        return
    excerpt = answer.body.decode(errors="replace")[:EXCERPT_CHARACTERS].strip()
    said = f"{host} answered {answer.status}" + (f": {excerpt}" if excerpt else "")
    if answer.status in RETRIED or not 300 <= answer.status < 500:
        raise DeliveryFailed(said)
    if answer.status < 400:
        raise Refused(
            f"{host} answered {answer.status} with a redirect to {answer.location}; redirects are not followed"
        )
    raise Refused(said)
