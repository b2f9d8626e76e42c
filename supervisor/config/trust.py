"""Whose words the configuration may be: the file is code, so nobody else may be able to write it. Pure.

Invariant: what a stranger can write is refused; what a group can write is refused where it would give that
group root, and said everywhere else. A sticky directory (/tmp) lets nobody replace the files of others.
"""

from __future__ import annotations

import stat
from typing import NamedTuple


class Distrust(NamedTuple):
    """Why something is not to be believed; `refused` or only worth a warning."""

    refused: bool
    text: str


def distrust(mode: int, owner: int, *, root: bool) -> Distrust | None:
    """What speaks against a file or directory of this mode and owner; `root`: the reader is root."""
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return None
    if mode & stat.S_IWOTH:
        return Distrust(True, "can be written by everyone, and configuration is code; run chmod o-w on it")
    if mode & stat.S_IWGRP:
        return Distrust(root, "can be written by its group, and configuration is code; run chmod g-w on it")
    if root and owner != 0:
        return Distrust(False, f"belongs to user {owner}, who thereby decides what root runs; run chown root on it")
    return None


def kind(mode: int) -> str:
    """What a path is, in words."""
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")
