"""The conformance script: the reference consumer and our server pass it, and consumers that do wrong do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli import conformance
from tests.support.daemon import ROOT, Daemon, environment
from tests.support.waiting import until

PERL = ROOT / "examples" / "perl_consumer"
SCRIPT = [sys.executable, "-m", "supervisor.cli.conformance"]
PULL = '[queues.pull]\npull = true\nbackoff = ["1ms"]\n'


def ran(*words: object, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    command = [*SCRIPT, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=timeout, check=False)


def test_the_reference_consumer_conforms() -> None:
    done = ran("consumer", "--", "perl", PERL / "consumer.pl", "any", PERL / "conformance.pl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") + 1 == len(conformance.CONSUMER_CASES)


def test_our_server_conforms(tmp_path: Path) -> None:
    with Daemon(tmp_path, PULL) as daemon:
        done = ran("server", daemon.socket, "pull")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\nok ") + 1 == len(conformance.SERVER_CASES)


PLAIN = """
import os
import sys
from supervisor.client import Client
with Client(socket=os.environ["JOBSUP_SOCKET"]) as client:
    while True:
        for job in client.fetch("any"):
            asked = job["payload"] if isinstance(job["payload"], dict) else {}
            %s
"""


@pytest.mark.parametrize(
    ("act", "wrong"),
    [
        ('client.ack(job["id"], job["token"], "other")', "The result of a job is its payload"),
        ('client.ack(job["id"], job["token"] + 1, job["payload"])', "The result of a job is its payload"),
        ('client.ack(job["id"], job["token"], job["payload"])', "A failure is said with its message and type"),
        ("sys.exit()", "After an empty answer it fetches again"),
    ],
)
def test_a_consumer_that_does_wrong_does_not_conform(tmp_path: Path, act: str, wrong: str) -> None:
    """The test of the test. Each of these is found, and named."""
    program = tmp_path / "consumer.py"
    program.write_text(PLAIN % act)
    found = [case for case in conformance.CONSUMER_CASES if (case.__doc__ or "").startswith(wrong)]
    command = [sys.executable, str(program)]
    with pytest.raises(conformance.NotConforming), conformance._consumer(command) as server:
        found[0](server)


def test_a_server_that_does_wrong_does_not_conform(tmp_path: Path) -> None:
    with Daemon(tmp_path, '[queues.pull]\ncommand = ["true"]\n') as daemon:
        done = ran("server", daemon.socket, "pull")
    assert done.returncode == 1
    assert "not ok" in done.stdout


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, PULL) as running:
        yield running


def test_the_reference_consumer_works_for_a_daemon(daemon: Daemon) -> None:
    command = ["perl", str(PERL / "consumer.pl"), "pull", str(PERL / "words.pl")]
    process = subprocess.Popen(command, env=environment({"JOBSUP_SOCKET": str(daemon.socket)}))
    try:
        with daemon.client() as client:
            good = client.enqueue("pull", {"text": "to be or not"})
            bad = client.enqueue("pull", {})
            assert client.wait(good, 30)["result"] == {"words": 4}
            dead = client.wait(bad, 30)
            assert (dead["state"], dead["errors"][-1]["type"]) == ("dead", "NoText")
            daemon.kill()
            daemon.sweep()
            daemon.start()
            assert client.wait(client.enqueue("pull", {"text": "again"}), 30)["result"] == {"words": 1}
            process.terminate()
            assert process.wait(10) == 0
            until(lambda: client.consumers() == [], 10)
    finally:
        process.kill()
        process.wait()
