"""Becoming another user for good, and giving up every capability.

setuid from one user that is not root to another does not clear capabilities, and ambient ones survive an exec:
both are given up by hand, or a job could become the service's user again.
"""

from __future__ import annotations

import ctypes
import os
import pwd

PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, PR_SET_NO_NEW_PRIVS = 47, 4, 38
CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become(user: str) -> None:
    """Take on the uid, gid and groups of a user, without a way back.

    Raises:
        KeyError: there is no such user.
        PermissionError: this process may not change its user.
    """
    entry = pwd.getpwnam(user)
    if (os.getresuid(), os.getresgid()) == ((entry.pw_uid,) * 3, (entry.pw_gid,) * 3):
        return
    os.setgroups(os.getgrouplist(user, entry.pw_gid))
    os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
    os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)


def drop_capabilities() -> None:
    """Give up every capability and the way to new ones. Root keeps its own: it was started as root on purpose.

    Raises:
        OSError: the kernel refuses, so they are still held.
    """
    if os.geteuid() == 0:
        return
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if not capabilities():
        return
    header = _Header(CAPABILITY_VERSION_3, 0)
    if _libc.capset(ctypes.byref(header), (_Data * 2)()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"capset: {os.strerror(number)}")


def capabilities() -> int:
    """The capabilities that this process holds or could raise, as the kernel's bit mask."""
    header = _Header(CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    if _libc.capget(ctypes.byref(header), data) != 0:
        return 0
    low, high = data[0], data[1]
    return int(low.effective | low.permitted | (high.effective | high.permitted) << 32)
