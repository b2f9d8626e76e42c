"""What the master keeps alive, as a pure function of the spec: the keeper, then alerter, relays and foremen."""

from __future__ import annotations

from collections.abc import Mapping

from supervisor.config.spec import Queue, Spec
from supervisor.tree.model import ChildSpec, CrashLoop, GroupSpec

KEEPER = "keeper"
ALERTER = "alerter"
POOL = "pool "
MARGIN_MS = 1_000
"""What a foreman needs beyond the grace of its workers: to kill, reap and certify the last of them."""
BOOT_MARGIN_MS = 5_000
KEEPER_BOOT_MS = 600_000
"""A keeper may have to migrate a large database, or to settle what many dead workers left."""
ALERTER_BOOT_MS = 30_000
STUCK_MS = 30_000
"""A loop of ours that shows no turn for so long is stuck: turns take milliseconds, a commit on a bad disk seconds."""
LAST_MS = 2_000
"""What the keeper has beyond the grace before it is killed; what it has not written by then, it has not promised."""
UNDEAD_MS = 10_000


ALERTER_VERSION = "[alerts]"
"""Where the versions of pools also say how often the alerter's part of the file was changed; no queue has that name."""


RELAY = "relay "


def relay_child(outbox: str) -> str:
    """The name of an outbox's relay in the tree."""
    return RELAY + outbox


def outbox_of(child: str) -> str | None:
    """The outbox whose relay this child is; None for every other."""
    return child.removeprefix(RELAY) if child.startswith(RELAY) else None


def pool_child(queue: str) -> str:
    """The name of a pool's foreman in the tree."""
    return POOL + queue


def queue_of(child: str) -> str | None:
    """The queue whose foreman this child is; None for the keeper, the alerter and relays."""
    return child.removeprefix(POOL) if child.startswith(POOL) else None


def shape(spec: Spec, versions: Mapping[str, int]) -> tuple[GroupSpec, ...]:
    """The groups of the root: one_for_one, for slots make the keeper replaceable under running pools.

    `versions` counts how often a pool was changed by a reload: a new number has it restarted.
    """
    alerter = (_alerter(spec, versions.get(ALERTER_VERSION, 0)),) if spec.alerts.command is not None else ()
    pools = (_pool(queue, spec, versions.get(queue.name, 0)) for queue in spec.workplaces.values())
    relays = (_relay(name, spec, versions.get(relay_child(name), 0)) for name in spec.outbox)
    return (_keeper(spec), *alerter, *relays, *pools)


def _keeper(spec: Spec) -> GroupSpec:
    child = ChildSpec(
        KEEPER,
        tier=0,
        boot_timeout_ms=KEEPER_BOOT_MS,
        shutdown_ms=spec.daemon.shutdown_grace_ms + LAST_MS,
        urgent_ms=LAST_MS,
        progress_ms=STUCK_MS,
    )
    return GroupSpec(KEEPER, (child,), intensity=5, period_ms=60_000, on_crash_loop=CrashLoop.ESCALATE)


def _relay(outbox: str, spec: Spec, version: int) -> GroupSpec:
    """Each outbox by itself: a file that cannot be read, or hangs, holds up no other."""
    return _beside_the_pools(relay_child(outbox), spec, version)


def _alerter(spec: Spec, version: int) -> GroupSpec:
    """The pools must not wait for it; told to stop with them, it goes on until the keeper is done."""
    return _beside_the_pools(ALERTER, spec, version)


def _beside_the_pools(name: str, spec: Spec, version: int) -> GroupSpec:
    child = ChildSpec(
        name,
        tier=1,
        boot_timeout_ms=ALERTER_BOOT_MS,
        shutdown_ms=spec.daemon.shutdown_grace_ms + MARGIN_MS,
        urgent_ms=MARGIN_MS,
        progress_ms=STUCK_MS,
        undead_ms=UNDEAD_MS,
        version=version,
    )
    return GroupSpec(name, (child,), intensity=5, period_ms=60_000)


def _pool(queue: Queue, spec: Spec, version: int) -> GroupSpec:
    """A foreman has twice the boot time-out of its queue: one for the import, one for its workers' handshake."""
    child = ChildSpec(
        pool_child(queue.name),
        tier=1,
        boot_timeout_ms=2 * queue.boot_timeout_ms + BOOT_MARGIN_MS,
        shutdown_ms=spec.daemon.shutdown_grace_ms + MARGIN_MS,
        urgent_ms=MARGIN_MS,
        progress_ms=STUCK_MS,
        undead_ms=UNDEAD_MS,
        version=version,
    )
    return GroupSpec(
        pool_child(queue.name),
        (child,),
        intensity=queue.restart.intensity,
        period_ms=queue.restart.period_ms,
        on_crash_loop=CrashLoop(queue.on_crash_loop),
    )
