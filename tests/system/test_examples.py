"""The example applications, in their frameworks, served by a real server, beside a real daemon: jobs after commits."""

from __future__ import annotations

import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.daemon import ROOT, Daemon, environment
from tests.support.waiting import until

EXAMPLES = ROOT / "examples"


class Shop:
    """A copy of an example, its server on a Unix socket, and a daemon that is not started yet."""

    name: str
    application: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "app"
        shutil.copytree(EXAMPLES / self.name, self.folder, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3"))
        self.daemon = Daemon(self.folder, (EXAMPLES / self.name / "etc" / "queues.toml").read_text())
        self.env = environment({"JOBSUP_SOCKET": str(self.daemon.socket)})
        self.log = self.folder / "server.log"
        self._path = str(folder / "http")
        self._process: subprocess.Popen[bytes] | None = None
        self.http: httpx.Client

    def prepare(self) -> None:
        """Whatever comes before the first start."""

    def sweep(self) -> int:
        """Have receipts enqueued that are missing; how many there were."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        Path(self._path).unlink(missing_ok=True)
        self.prepare()
        command = [sys.executable, "-m", "uvicorn", self.application, "--uds", self._path]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)
        until(self._listens, 60, "the server")
        self.http = httpx.Client(transport=httpx.HTTPTransport(uds=self._path), base_url="http://shop", timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self.http.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(20)
        sys.stderr.write(self.log.read_text())

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(self._path) == 0

    def kill(self) -> None:
        """SIGKILL of the server."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def order(self, pieces: int = 1, article: str = "tea") -> httpx.Response:
        """Order something."""
        return self.http.post("/orders", json={"article": article, "pieces": pieces})

    def shown(self, order_id: int) -> dict[str, Any]:
        """An order as it stands."""
        found: dict[str, Any] = self.http.get(f"/orders/{order_id}").json()
        return found

    def orders_with_jobs(self) -> list[int]:
        """The order of each job that there is."""
        ran = self.daemon.ctl("export", "--queue", "receipts", "--json")
        assert ran.status == 0, ran.err
        return sorted(job["payload"]["order"] for job in ran.lines)


class Django(Shop):
    """Django under an ASGI server; its views run in threads that share a client."""

    name = "django_app"
    application = "shop.asgi:application"

    def _manage(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *args]
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )

    def prepare(self) -> None:
        ran = self._manage("migrate", "-v", "0")
        assert ran.returncode == 0, ran.stderr

    def sweep(self) -> int:
        ran = self._manage("enqueue_missing")
        assert ran.returncode == 0, ran.stderr
        return int(ran.stdout.split()[0])


class FastAPI(Shop):
    """FastAPI with a client of its event loop."""

    name = "fastapi_app"
    application = "shop.main:app"

    def sweep(self) -> int:
        return int(self.http.post("/enqueue-missing").json())


@pytest.fixture(params=[Django, FastAPI], ids=lambda kind: kind.name)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with request.param(tmp_path) as shop:
        yield shop


def test_a_committed_order_has_exactly_one_job_and_one_that_was_rolled_back_has_none(shop: Shop) -> None:
    with shop.daemon:
        placed = shop.order(3)
        assert placed.status_code == 201
        order_id = placed.json()["id"]
        assert placed.json()["receipt_job"] is not None
        assert until(lambda: shop.shown(order_id)["receipt"], 20) == "3 x tea"
        refused = shop.order(1_000)
        assert (refused.status_code, "1000 pieces of tea: there are 10" in refused.text) == (409, True)
        assert shop.http.get(f"/orders/{order_id + 1}").status_code == 404
        assert shop.orders_with_jobs() == [order_id]


def test_orders_at_the_same_time_have_one_job_each(shop: Shop) -> None:
    with shop.daemon, ThreadPoolExecutor(10) as pool:
        placed = list(pool.map(shop.order, [1, 99, 2, 3, 50] * 8))
        ids = sorted(answer.json()["id"] for answer in placed if answer.status_code == 201)
        assert sorted(answer.status_code for answer in placed) == [201] * 24 + [409] * 16
        assert shop.orders_with_jobs() == ids
        until(lambda: all(shop.shown(order_id)["receipt"] for order_id in ids), 30)


def test_without_a_daemon_the_order_stands_the_log_says_what_to_do_and_a_sweep_makes_good(shop: Shop) -> None:
    placed = shop.order()
    assert (placed.status_code, placed.json()["receipt_job"]) == (201, None)
    order_id = placed.json()["id"]
    said = until(lambda: [line for line in shop.log.read_text().splitlines() if "is not enqueued" in line])
    assert f"order {order_id} is saved" in said[0]
    assert said[0].endswith(f"no daemon listens at {shop.daemon.socket}; start jobsupd")
    with shop.daemon:
        assert shop.sweep() == 1
        assert shop.sweep() == 0
        assert until(lambda: shop.shown(order_id)["receipt"], 20) == "1 x tea"
        assert shop.orders_with_jobs() == [order_id]


def test_an_order_that_was_enqueued_and_not_noted_gets_no_second_job(shop: Shop) -> None:
    """As if the server had been killed between the two: the sweep enqueues it again, and the queue is unique."""
    with shop.daemon:
        order_id = shop.order().json()["id"]
        until(lambda: shop.shown(order_id)["receipt"], 20)
        forget(shop)
        assert shop.shown(order_id)["receipt_job"] is None
        assert shop.sweep() == 1
        assert shop.shown(order_id)["receipt_job"] is not None
        assert shop.orders_with_jobs() == [order_id]


def forget(shop: Shop) -> None:
    """Take the number of the job out of every order."""
    table = "shop_order" if isinstance(shop, Django) else "orders"
    with sqlite3.connect(shop.folder / "shop.sqlite3", timeout=20) as connection:
        connection.execute(f"UPDATE {table} SET receipt_job = NULL")
    connection.close()


def test_servers_that_are_killed_while_they_take_orders_leave_none_without_a_job_after_a_sweep(
    shop: Shop,
) -> None:
    def order(_: int) -> int | None:
        try:
            return int(shop.order().json()["id"])
        except httpx.TransportError:
            return None

    with shop.daemon:
        with ThreadPoolExecutor(8) as pool:
            orders = [pool.submit(order, n) for n in range(60)]
            until(lambda: sum(each.done() for each in orders) > 10, 30)
            shop.kill()
            answered = {each.result() for each in orders} - {None}
        assert answered
        with shop:  # once more, on what is left
            shop.sweep()
            known = shop.orders_with_jobs()
            assert answered <= set(known)
            assert len(set(known)) == len(known)
            assert known == list(range(1, len(known) + 1))
            assert shop.http.get(f"/orders/{len(known) + 1}").status_code == 404
