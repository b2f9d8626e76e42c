"""Reading the bytes of a configuration file: opened once, bounded, regular, and written by nobody else."""

from __future__ import annotations

import errno
import os
import stat

from supervisor.config.problem import FILE, Place, Report, printable
from supervisor.config.trust import distrust, kind

FILE_MAX_BYTES = 256 * 1024

_OPEN_FAILURES = {
    errno.ENOENT: "does not exist; name another file with -c FILE",
    errno.ENOTDIR: "does not exist: a part of its path is no directory",
    errno.EACCES: "cannot be read by this user; give it read permission",
    errno.EPERM: "cannot be read by this user; give it read permission",
    errno.ELOOP: "is a symbolic link that leads to itself; remove the link",
    errno.ENXIO: "is a socket; name a regular file",
    errno.ENAMETOOLONG: "has too long a name; name another file",
}


def read(path: str, report: Report) -> bytes | None:
    """The content of the file, or None if there are problems with it.

    O_NONBLOCK keeps a FIFO from holding us for ever; all checks are made on the descriptor, not on the name.
    """
    if not path.isprintable():
        report.problem(Place(path), FILE, "has a name with control characters or bytes that are not UTF-8; rename it")
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        text = _OPEN_FAILURES.get(error.errno or 0, f"cannot be opened: {error.strerror}")
        report.problem(Place(path), FILE, text)
        return None
    try:
        return _read_descriptor(path, descriptor, report)
    except OSError as error:
        report.problem(Place(path), FILE, f"cannot be read: {error.strerror}")
        return None
    finally:
        os.close(descriptor)


def _read_descriptor(path: str, descriptor: int, report: Report) -> bytes | None:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        report.problem(Place(path), FILE, f"is {kind(facts.st_mode)}; name a regular file")
        return None
    trusted = _believe(path, facts, report)
    for folder in _folders(path, descriptor):
        trusted &= believe_folder(folder, report, of=path)
    if not trusted:
        return None
    content = os.read(descriptor, FILE_MAX_BYTES + 1)
    if len(content) > FILE_MAX_BYTES:
        report.problem(Place(path), FILE, "is larger than 256 KiB; divide it into files below queues.d")
        return None
    return content


def believe_folder(folder: str, report: Report, of: str) -> bool:
    """Whether nobody else can put files into this directory; says why not, at the file `of`."""
    try:
        facts = os.stat(folder)
    except OSError:
        return True  # What is not there brings nothing in; whoever needs it will say that it is missing.
    return _believe(folder, facts, report, of)


def _believe(path: str, facts: os.stat_result, report: Report, of: str | None = None) -> bool:
    found = distrust(facts.st_mode, facts.st_uid, root=os.geteuid() == 0)
    if found is None:
        return True
    text = found.text if of is None else f"its directory {printable(path)} {found.text}"
    (report.problem if found.refused else report.warn)(Place(of or path), FILE, text)
    return not found.refused


def _folders(path: str, descriptor: int) -> list[str]:
    """The directories in which the name and, behind symbolic links, the file itself stand."""
    named = os.path.dirname(os.path.abspath(path))
    real = os.path.dirname(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [named] if os.path.realpath(named) == real else [named, real]
