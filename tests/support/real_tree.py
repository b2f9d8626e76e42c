"""A tree over real processes: the smallest loop that obeys it, so that its rules meet real exits and signals."""

from __future__ import annotations

import os
import select
import selectors
import signal
from typing import NamedTuple, Self

from supervisor.tree import commands as do
from supervisor.tree import events as on
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.model import GroupSpec, Phase, Tree, plant
from supervisor.tree.react import react
from supervisor.tree.restart import ending_of
from supervisor.unix.clock import boot_ms
from supervisor.unix.reap import reap
from supervisor.unix.spawn import spawn

EXIT_0, EXIT_1 = signal.SIGUSR1, signal.SIGUSR2


class Running(NamedTuple):
    """A living child."""

    run: int
    pid: int
    pidfd: int
    ready_fd: int


def obedient_child(ready_fd: int) -> int:
    """Says that it is up, then ends as it is told: status 0 for SIGUSR1 and SIGTERM, 1 for SIGUSR2."""
    told = {EXIT_0: 0, signal.SIGTERM: 0, EXIT_1: 1}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)
    os.write(ready_fd, b"r")
    return told[signal.sigwait(told)]


class RealTree:
    """Runs groups of obedient children. `did` notes every start and stop as "+a" and "-a"."""

    def __init__(self, *groups: GroupSpec) -> None:
        self.tree: Tree = plant(groups)
        self.running: dict[str, Running] = {}
        self.did: list[str] = []
        self.ordered: set[int] = set()
        self.said: list[do.Command] = []
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        self.tell(on.Tick())
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.running.values():
            signal.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            select.select([child.pidfd], [], [], 10)
            reap(child.pid)

    def tell(self, event: on.Event) -> None:
        self.tree, commands = react(self.tree, event, boot_ms())
        self.said.extend(commands)
        for command in commands:
            self._obey(command)

    def _obey(self, command: do.Command) -> None:
        match command:
            case do.Start(child, run):
                self._start(child, run)
            case do.Stop(child, _):
                self.did.append(f"-{child}")
                self.order(child, signal.SIGTERM)
            case do.Kill(child, _):
                self.order(child, signal.SIGKILL)

    def _start(self, child: str, run: int) -> None:
        ready, ours = os.pipe2(os.O_CLOEXEC)
        spawned = spawn(lambda: obedient_child(ours), name=child, keep=[ours], death_signal=signal.SIGKILL)
        os.close(ours)
        self.did.append(f"+{child}")
        running = Running(run, spawned.pid, spawned.pidfd, ready)
        self.running[child] = running
        self._selector.register(ready, selectors.EVENT_READ, lambda: self._ready(child, running))
        self._selector.register(spawned.pidfd, selectors.EVENT_READ, lambda: self._ended(child, running))

    def _ready(self, child: str, running: Running) -> None:
        self._selector.unregister(running.ready_fd)
        if os.read(running.ready_fd, 1):
            self.tell(on.Ready(child, running.run))

    def _ended(self, child: str, running: Running) -> None:
        self._selector.unregister(running.pidfd)
        end = reap(running.pid)
        assert end is not None
        if running.ready_fd in self._selector.get_map():
            self._selector.unregister(running.ready_fd)
        for fd in (running.pidfd, running.ready_fd):
            os.close(fd)
        del self.running[child]
        ending = ending_of(end.exit_code, ordered=running.pid in self.ordered)
        self.tell(on.Exited(child, running.run, ending, reason=str(end)))

    def order(self, child: str, number: int) -> None:
        """Signal a child and remember that it was us."""
        running = self.running[child]
        self.ordered.add(running.pid)
        signal.pidfd_send_signal(running.pidfd, number)

    def strike(self, child: str, number: int) -> int:
        """Signal a child as a stranger would; its pid."""
        pid = self.running[child].pid
        os.kill(pid, number)
        return pid

    def turn(self, wait_s: float = 0.05) -> None:
        """Wait once for what happens next."""
        now_ms = boot_ms()
        deadline_ms = next_deadline_ms(self.tree, now_ms)
        due_s = wait_s if deadline_ms is None else min(wait_s, (deadline_ms - now_ms) / 1000)
        for key, _ in self._selector.select(due_s):
            if self._selector.get_map().get(key.fileobj) is key:
                key.data()
        self.tell(on.Tick())

    def settle(self, gone: int | None = None) -> None:
        """Turn until that pid is gone and nothing is on its way."""
        until_ms = boot_ms() + 10_000
        while boot_ms() < until_ms:
            self.turn()
            pids = {running.pid for running in self.running.values()}
            moving = [child for child in self.tree.children if child.alive and child.status.value != "ready"]
            due = next_deadline_ms(self.tree, boot_ms())
            if gone not in pids and not moving and (due is None or self.tree.phase is not Phase.RUNNING):
                return
        raise AssertionError(f"the tree did not settle: {self.tree}")
