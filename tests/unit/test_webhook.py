"""What the webhook handler decides, without a network: payloads, settings, signatures, address ranges, answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.handlers import webhook
from supervisor.handlers.webhook import Answer, DeliveryFailed, Refused
from supervisor.job import Dead, Job

URL = "https://hooks.example.com/in"


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (None, '"url" and "body"'),
        ([], '"url" and "body"'),
        ({"url": URL}, '"url" and "body"'),
        ({"url": URL, "body": 1, "bdoy": 2}, "'bdoy'"),
        ({"url": URL, "body": 1, "method": "GET"}, "'GET' is not one of POST"),
        ({"url": URL, "body": 1, "method": ["POST"]}, "is not one of POST"),
        ({"url": 5, "body": 1}, "url: not text"),
        ({"url": "https://h/a b", "body": 1}, "url: not text without spaces"),
        ({"url": "https://h/\r\nx: y", "body": 1}, "control characters"),
        ({"url": "ftp://h/", "body": 1}, "https:// or http://"),
        ({"url": "https:///path", "body": 1}, "name a host"),
        ({"url": "https://h:0/", "body": 1}, "name a host"),
        ({"url": "https://h:99999/", "body": 1}, "url: Port out of range"),
        ({"url": "https://[::1/", "body": 1}, "url: "),
        ({"url": "https://[fe80::1%25eth0]/", "body": 1}, "url: "),
        ({"url": "https://user:pw@h/", "body": 1}, "user name or password"),
        ({"url": "https://" + "a" * 70 + ".example/", "body": 1}, "url: "),
        ({"url": "https://a{b}/", "body": 1}, "neither a name nor an address"),
        ({"url": URL, "body": 1, "headers": []}, "headers: must be an object"),
        ({"url": URL, "body": 1, "headers": {"x": 1}}, "headers: 'x'"),
        ({"url": URL, "body": 1, "headers": {"x y": "1"}}, "headers: 'x y'"),
        ({"url": URL, "body": 1, "headers": {"x": "a\r\nb: c"}}, "headers: 'x'"),
        ({"url": URL, "body": 1, "headers": {"x": "grüße"}}, "headers: 'x'"),
        ({"url": URL, "body": 1, "headers": {"Host": "other"}}, "set by the delivery itself"),
        ({"url": URL, "body": 1, "headers": {"Transfer-Encoding": "chunked"}}, "set by the delivery itself"),
        ({"url": URL, "body": 1, "headers": {"Webhook-Signature": "v1,x"}}, "set by the delivery itself"),
    ],
)
def test_an_unusable_payload_is_refused_with_what_is_wrong(payload: Any, complaint: str) -> None:
    with pytest.raises(Refused) as refusal:
        webhook.message_from(payload)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "target"),
    [
        ("https://h.example", "h.example", 443, "h.example", "/"),
        ("https://h.example:443/a?b=1#c", "h.example", 443, "h.example", "/a?b=1"),
        ("http://h.example:8080/a%20b?x=%2F&y=[1]", "h.example", 8080, "h.example:8080", "/a%20b?x=%2F&y=[1]"),
        ("https://bücher.example/grüße", "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/gr%C3%BC%C3%9Fe"),
        ("http://[2001:db8::1]:81/", "2001:db8::1", 81, "[2001:db8::1]:81", "/"),
        ("https://H.Example/A", "h.example", 443, "h.example", "/A"),
    ],
)
def test_a_url_becomes_where_to_connect_and_what_to_ask(
    url: str, host: str, port: int, authority: str, target: str
) -> None:
    message = webhook.message_from({"url": url, "body": None})
    assert (host, port, authority, target) == (message.host, message.port, message.authority, message.target)
    assert message.secure == url.startswith("https")


def test_the_id_is_the_same_for_every_attempt_and_differs_between_databases() -> None:
    def job(attempt: int, year: int) -> Job:
        return Job(id=7, queue="w", payload=None, attempt=attempt, enqueued_at=datetime(year, 1, 1, tzinfo=UTC))

    assert webhook.message_id(job(1, 2026)) == webhook.message_id(job(3, 2026)) == "job-7-1767225600000"
    assert webhook.message_id(job(1, 2026)) != webhook.message_id(job(1, 2027))
    assert "." not in webhook.message_id(job(1, 2026))


def test_the_signature_is_that_of_the_published_example_of_standard_webhooks() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = webhook.signature_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', (secret,))
    assert dict(headers)["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_every_secret_of_the_file_signs(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("whsec_" + base64.b64encode(b"new").decode() + "\n\nold plain one \n")
    secrets = webhook.settings_from({webhook.SECRET_FILE: str(file)}).secrets
    assert secrets == (b"new", b"old plain one")
    signature = dict(webhook.signature_headers("i", 5, b"b", secrets))["webhook-signature"]
    expected = [base64.b64encode(hmac.new(key, b"i.5.b", hashlib.sha256).digest()).decode() for key in secrets]
    assert [f"v1,{text}" for text in expected] == signature.split()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "cannot be read: No such file"), ("", "is empty"), (" \n", "is empty"), ("whsec_%%", "is not base64")],
)
def test_a_secret_that_cannot_be_used_ends_the_job_with_a_clear_sentence(
    content: str | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv(webhook.SECRET_FILE, str(file))
    outcome = webhook.deliver(Job(id=1, queue="w", payload={"url": URL, "body": 1}))
    assert isinstance(outcome, Dead)
    assert outcome.reason.startswith("no signing secret: ")
    assert complaint in outcome.reason


def test_without_a_secret_the_job_ends_with_a_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(webhook.SECRET_FILE, raising=False)
    outcome = webhook.deliver(Job(id=1, queue="w", payload={"url": URL, "body": 1}))
    assert outcome == Dead(
        "no signing secret: set JOBSUP_WEBHOOK_SECRET_FILE in the queue's env to a file that holds one"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (webhook.ALLOW_PRIVATE, "10.0.0.0/40"),
        (webhook.ALLOW_PRIVATE, "localhost"),
        (webhook.TIMEOUT, "0"),
        (webhook.TIMEOUT, "inf"),
        (webhook.TIMEOUT, "nan"),
        (webhook.CONNECT_TIMEOUT, "5s"),
    ],
)
def test_a_setting_that_cannot_be_read_is_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    with pytest.raises(Refused) as refusal:
        webhook.settings_from({webhook.SECRET_FILE: str(tmp_path / "secret"), name: value})
    assert str(refusal.value).startswith(name)


NOT_PUBLIC = """
    0.0.0.0 0.1.2.3 10.1.2.3 100.64.0.1 127.0.0.1 127.8.8.8 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8
    192.0.2.1 192.168.1.1 198.18.0.1 198.51.100.7 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255
    :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:10.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 2001::1
    2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd12:3456::1 fe80::1 fec0::1 ff02::1 ff0e::1
"""
PUBLIC = """
    1.1.1.1 8.8.8.8 100.63.255.255 172.15.0.1 172.32.0.1 192.169.0.1 223.255.255.255 2606:4700::1111 2a00:1450::1
"""


@pytest.mark.parametrize("text", NOT_PUBLIC.split())
def test_an_address_that_is_not_public_is_refused_unless_its_range_is_allowed(text: str) -> None:
    address = ip_address(text)
    assert not webhook.permitted(address, ())
    assert not webhook.permitted(address, (ip_network("10.99.0.0/16"), ip_network("fd99::/16")))
    assert webhook.permitted(address, (ip_network(text),))


@pytest.mark.parametrize("text", PUBLIC.split())
def test_a_public_address_is_permitted(text: str) -> None:
    assert webhook.permitted(ip_address(text), ())


def test_an_allowed_ipv4_range_covers_its_ipv4_mapped_form() -> None:
    assert webhook.permitted(ip_address("::ffff:10.0.0.1"), (ip_network("10.0.0.0/8"),))
    assert not webhook.permitted(ip_address("::ffff:11.0.0.1"), (ip_network("10.0.0.0/8"),))


@given(st.ip_addresses())
def test_nothing_that_python_calls_private_loopback_or_multicast_is_permitted(address: Any) -> None:
    if address.is_private or address.is_loopback or address.is_multicast or address.is_link_local:
        assert not webhook.permitted(address, ())


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_an_answer_of_2xx_is_a_delivery(status: int) -> None:
    webhook.judge(Answer(status, None, b""), "h")


@pytest.mark.parametrize("status", [103, 408, 425, 429, 500, 502, 503, 504, 599, 999])
def test_an_answer_that_may_be_another_later_is_retried(status: int) -> None:
    with pytest.raises(DeliveryFailed, match=f"h answered {status}: later"):
        webhook.judge(Answer(status, None, b"later"), "h")


@pytest.mark.parametrize("status", [300, 301, 302, 304, 307, 308, 400, 401, 403, 404, 409, 410, 422, 451])
def test_an_answer_that_stays_is_not_retried(status: int) -> None:
    with pytest.raises(Refused, match=f"h answered {status}"):
        webhook.judge(Answer(status, "https://elsewhere/", b"no"), "h")


def test_a_refusal_quotes_the_first_part_of_the_answer() -> None:
    with pytest.raises(Refused) as refusal:
        webhook.judge(Answer(422, None, b"bad \xff field " + b"x" * 10_000), "h")
    assert str(refusal.value).startswith("h answered 422: bad \ufffd field xxx")
    assert len(str(refusal.value)) < 250
