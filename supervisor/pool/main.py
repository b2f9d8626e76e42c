"""The foreman's entry: become fit to fork, or say why not and end with the status that says so."""

from __future__ import annotations

import os
import signal

from supervisor.pool.foreman import Foreman
from supervisor.pool.fork import DETAIL_MAX
from supervisor.pool.preload import preload, take_on
from supervisor.unix.inheritance import FOREMAN_UNPRELOADABLE, FOREMAN_UNUSABLE, ForemanInheritance, HandlerUnusable
from supervisor.unix.spawn import adopt_orphans, die_with
from supervisor.wire.control import Link, PoolState


def run(given: ForemanInheritance) -> int:
    """A foreman's whole life; returns its exit status.

    Until its import is done, signals have their default effect: nothing of a pool is lost that has no worker yet.
    """
    name = given.queue.name
    given.log.role = f"pool {name}"
    parent = os.getppid()
    adopt_orphans()
    try:
        take_on(given.queue)
        die_with(parent, signal.SIGTERM)  # asked for again: it is forgotten when the user changes
        preloaded = preload(given)
    except HandlerUnusable as unusable:
        detail = unusable.detail[-DETAIL_MAX:] if unusable.detail else None
        _say(given, PoolState(name, "open", unusable.message[:DETAIL_MAX], detail))
        return FOREMAN_UNUSABLE
    if preloaded.leftover is not None:
        given.log.emit("pool.unpreloaded", pool=name, reason=preloaded.leftover)
        _say(given, PoolState(name, "closed", preloaded.leftover, preloaded=False))
        return FOREMAN_UNPRELOADABLE
    return Foreman(given, preloaded, parent).serve()


def _say(given: ForemanInheritance, state: PoolState) -> None:
    for sock in (given.link, given.control):
        Link(sock).send(state)
