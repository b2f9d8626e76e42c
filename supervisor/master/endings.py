"""What the end of a child of the master means to its tree, and what people should hear of it."""

from __future__ import annotations

import random

from supervisor.errors import EXIT_FAILED
from supervisor.master.processes import AlerterProcess, Foreman, KeeperProcess, RelayProcess
from supervisor.master.shape import ALERTER, KEEPER, pool_child, relay_child
from supervisor.master.state import State
from supervisor.tree import events as on
from supervisor.tree.model import Ending, Phase
from supervisor.unix.inheritance import FOREMAN_ESCALATED, FOREMAN_UNPRELOADABLE, FOREMAN_UNUSABLE

FINAL_STATUSES = frozenset({2, 74, 75, 78})
"""A keeper that ends with one of these would do so again: the daemon ends with the same."""
UNUSABLE_STATUSES = frozenset({FOREMAN_UNUSABLE, FOREMAN_ESCALATED})
"""A foreman that ends with one of these trips its pool's circuit, or escalates where its queue says so."""


def keeper_ended(state: State, keeper: KeeperProcess, status: int, how: str) -> None:
    """The keeper is gone: slots make it replaceable under running pools."""
    ordered = keeper.stopping or state.tree.phase is not Phase.RUNNING
    ending = Ending.ORDERED if ordered and status == 0 else Ending.FAILED
    final = status in FINAL_STATUSES
    if ending is not Ending.ORDERED:
        then = "nothing can be done about it here" if final else "the stop goes on" if ordered else "pools run on"
        state.log.emit("master.role_died", role=KEEPER, pid=keeper.pid, status=how, then=then)
    if final:
        state.listener.close()  # nobody will serve it: clients must not wait in it while jobs finish
    if ordered and status:
        state.status = max(status, EXIT_FAILED)  # killed at its last work, it may have left some undone
    state.events.append(
        on.Exited(
            KEEPER, keeper.run, ending, final=final, reason=f"the keeper ended with {how}",
            status=status if final else 1, chance=random.random(),  # noqa: S311 - jitter
        )
    )  # fmt: skip


def foreman_ended(state: State, foreman: Foreman, status: int, how: str) -> None:
    """A foreman is gone, and so are its workers by now."""
    name = pool_child(foreman.queue.name)
    restarting = status == FOREMAN_UNPRELOADABLE
    final = status in UNUSABLE_STATUSES
    ending = Ending.ORDERED if foreman.stopping else Ending.NORMAL if status == 0 else Ending.FAILED
    reason = (foreman.reason if final else None) or f"the foreman ended with {how}"
    if ending is not Ending.ORDERED and not restarting:
        state.log.emit("master.role_died", role=name, pid=foreman.pid, status=how, then=reason)
    state.events.append(
        on.Exited(
            name, foreman.run, ending, excused=restarting, final=final, reason=reason,
            chance=random.random(),  # noqa: S311 - jitter
        )
    )  # fmt: skip


def alerter_ended(state: State, alerter: AlerterProcess, status: int, how: str) -> None:
    """The alerter is gone; nobody else ends of that."""
    ordered = alerter.stopping or state.tree.phase is not Phase.RUNNING
    ending = Ending.ORDERED if ordered else Ending.NORMAL if status == 0 else Ending.FAILED
    reason = f"the alerter ended with {how}"
    if ending is not Ending.ORDERED:
        state.log.emit("master.role_died", role=ALERTER, pid=alerter.pid, status=how, then="what it had is told again")
    state.events.append(on.Exited(ALERTER, alerter.run, ending, reason=reason, chance=random.random()))  # noqa: S311


def relay_ended(state: State, relay: RelayProcess, status: int, how: str) -> None:
    """A relay is gone; the next one reads the rows again, and the keeper knows which of them are jobs."""
    name = relay_child(relay.outbox)
    ordered = relay.stopping or state.tree.phase is not Phase.RUNNING
    ending = Ending.ORDERED if ordered else Ending.NORMAL if status == 0 else Ending.FAILED
    if ending is not Ending.ORDERED:
        state.log.emit("master.role_died", role=name, pid=relay.pid, status=how, then="its rows stay where they are")
    reason = f"the relay ended with {how}"
    state.events.append(on.Exited(name, relay.run, ending, reason=reason, chance=random.random()))  # noqa: S311
