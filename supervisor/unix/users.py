"""The users that pools run as."""

from __future__ import annotations

import os
import pwd


def owner_of(user: str | None) -> tuple[int, int] | None:
    """The (uid, gid) of a pool's user; None where it runs as the service itself, or the user does not exist."""
    if user is None:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return None
    return entry.pw_uid, entry.pw_gid


def become(user: str) -> None:
    """Give up our own rights for those of another user, for ever.

    Raises:
        KeyError: there is no such user.
        PermissionError: we may not.
    """
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
