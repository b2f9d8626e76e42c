"""Which systemd drop-in a queue needs beyond the unit as shipped, in one sentence each. Pure.

`jobsupd --check` says it ahead of time; a pool that was started without it says the same as its circuit opens.
"""

from __future__ import annotations

from typing import NamedTuple

from supervisor.config.spec import Queue

FOLDER = "/etc/systemd/system/jobsup.service.d"


class Need(NamedTuple):
    """A drop-in that a queue needs: the key that asks for it, the file, and the sentence."""

    key: str
    drop_in: str
    sentence: str


def needs(queue: Queue) -> tuple[Need, ...]:
    """The drop-ins without which this queue cannot work under the unit as shipped."""
    found = []
    if queue.network:
        found.append(Need("network", "network.conf", _sentence("the network", "network.conf")))
    if queue.user is not None:
        found.append(Need("user", "users.conf", _sentence(f"to run as {queue.user}", "users.conf")))
    return tuple(found)


def _sentence(what: str, drop_in: str) -> str:
    return (
        f"needs {what}, which jobsup.service denies without the drop-in {drop_in}; "
        f"copy systemd/jobsup.service.d/{drop_in} to {FOLDER}/, run systemctl daemon-reload, and restart the service"
    )
