"""What systemd is told: that we are ready, how we stand, that we need time, that our loop turns."""

from __future__ import annotations

from supervisor.master.shape import queue_of
from supervisor.observe.log import Log
from supervisor.tree.groups import settled
from supervisor.tree.model import CircuitState, Tree
from supervisor.unix.systemd import Notifier

EXTEND_MS = 10_000
STALLED_KEEPER_MS = 15_000
"""A keeper that has shown no turn for so long makes the whole of us unhealthy, should its own deadline not help."""


class Herald:
    """Speaks to systemd, and says what it says; without systemd it says nothing."""

    def __init__(self, notifier: Notifier, log: Log) -> None:
        self._notifier = notifier
        self._log = log
        self._ready = False
        self._extend_at_ms = 0
        self._watchdog_at_ms = 0

    def stand(self, tree: Tree, workers: int, reload_error: str | None) -> None:
        """How we stand now; ready once every pool is up, or shows why it is not."""
        status = f"STATUS={status_line(tree, reload_error)}"
        if self._ready:
            self._notifier.say(status)
        elif settled(tree):
            self._ready = True
            self._notifier.say("READY=1", status)
            pools = [group for group in tree.groups if queue_of(group.id)]
            broken = sum(group.circuit is not CircuitState.CLOSED for group in pools)
            self._log.emit("master.ready", pools=len(pools), workers=workers, broken=broken)

    def stopping(self, grace_ms: int) -> None:
        """We stop, and need the grace for it."""
        self._ready = True
        self._notifier.say("STOPPING=1", f"EXTEND_TIMEOUT_USEC={(grace_ms + EXTEND_MS) * 1_000}")

    def turn(self, now_ms: int, keeper_seen_ms: int) -> None:
        """Ask for time while we start; feed the watchdog while the keeper's loop turns as well as ours."""
        if not self._ready and now_ms >= self._extend_at_ms:
            self._extend_at_ms = now_ms + EXTEND_MS // 2
            self._notifier.say(f"EXTEND_TIMEOUT_USEC={EXTEND_MS * 1_000}")
        every_ms = self._notifier.watchdog_ms
        if every_ms is not None and now_ms >= self._watchdog_at_ms:
            self._watchdog_at_ms = now_ms + every_ms
            if now_ms - keeper_seen_ms < STALLED_KEEPER_MS:
                self._notifier.alive()

    def next_ms(self) -> int | None:
        """When there is something to say again."""
        moments = [] if self._ready else [self._extend_at_ms]
        if self._notifier.watchdog_ms is not None:
            moments.append(self._watchdog_at_ms)
        return min(moments, default=None)


def status_line(tree: Tree, reload_error: str | None) -> str:
    """The line that `systemctl status` shows."""
    broken = [group.id for group in tree.groups if group.circuit is not CircuitState.CLOSED]
    parts = [f"{sum(1 for group in tree.groups if queue_of(group.id))} queues"]
    if broken:
        parts.append(f"circuit open: {', '.join(broken)}")
    if reload_error:
        parts.append(f"reload refused: {reload_error}")
    return ", ".join(parts)
