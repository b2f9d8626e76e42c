"""Who may do what over the socket: access lists per class of verbs, by the kernel's word on who connected."""

from __future__ import annotations

import grp
import os
import pwd

from supervisor.config.spec import Access
from supervisor.wire.connection import Peer


def allowed(access: Access, verbs: str, peer: Peer) -> bool:
    """Whether this peer may use verbs of this class.

    Root and the service's own user always may; an empty list admits whoever may open the socket.
    """
    entries: tuple[str, ...] = getattr(access, verbs)
    if not entries or peer.uid in (0, os.geteuid()):
        return True
    return any(_matches(entry, peer) for entry in entries)


def _matches(entry: str, peer: Peer) -> bool:
    if entry == "*":
        return True
    kind, _, name = entry.partition(":")
    if kind == "user":
        return peer.uid == _uid(name)
    return _gid(name) in _groups(peer)


def _uid(name: str) -> int | None:
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _groups(peer: Peer) -> set[int]:
    try:
        return {peer.gid, *os.getgrouplist(pwd.getpwuid(peer.uid).pw_name, peer.gid)}
    except KeyError:
        return {peer.gid}
