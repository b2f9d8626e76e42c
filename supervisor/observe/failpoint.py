"""Failpoints: named places where a test makes the process die, stop, wait, fail or look away.

Armed by JOBSUP_FAILPOINTS, a comma-separated list of NAME=ACTION[@N] (at the Nth time it is reached; default the
first), read once. Unarmed, a point costs one dictionary look-up. `jobsupd --failpoints` lists them.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

POINTS: dict[str, str] = {
    "store.before_commit": "keeper: everything of a pass is written, nothing is committed",
    "store.after_commit": "keeper: a pass is committed, nobody knows yet",
    "keeper.after_accept": "keeper: a request was read, its group is not in the store",
    "keeper.before_reply": "keeper: a group is committed, its client was not told",
    "keeper.after_reply": "keeper: the client was told",
    "keeper.after_lease": "keeper: a lease is committed, no chunk was sent",
    "keeper.after_chunk": "keeper: a chunk was sent",
    "keeper.after_recall": "keeper: chunks were taken back, their jobs are not leased anew",
    "keeper.read_position": "keeper: outcomes and the read position are in the transaction, uncommitted",
    "keeper.before_free": "keeper: outcomes are committed, the ring's space is not given back",
    "keeper.after_lend": "keeper: a lease of a consumer is committed, and it is not told",
    "keeper.consumer_heard": "keeper: what a consumer says is written, and not committed",
    "keeper.verdict": "keeper: a certificate was read, the verdict is not committed",
    "keeper.before_answer": "keeper: a verdict is committed, the certifier was not told",
    "keeper.before_flush": "keeper: buffered groups were answered, not committed",
    "keeper.finish": "keeper: the last flush is about to happen",
    "keeper.adopt": "keeper: a new keeper has opened the store and settled nothing",
    "keeper.promote": "keeper: due jobs were promoted, uncommitted",
    "keeper.schedule": "keeper: due times were claimed and their jobs inserted, uncommitted",
    "keeper.prune": "keeper: old jobs were deleted, uncommitted",
    "keeper.outbox": "keeper: rows of an outbox were made jobs, uncommitted",
    "keeper.before_taken": "keeper: rows of an outbox are jobs, its relay was not told",
    "keeper.forget_rows": "keeper: rows that are gone were forgotten, uncommitted",
    "migrate.step": "keeper: a migration has run, uncommitted",
    "worker.after_take": "worker: a chunk was received, no job of it begun",
    "worker.after_begin": "worker: the cell names the job, the handler has not been called",
    "worker.after_checkpoint": "worker: a value that the run keeps is in the ring, the handler goes on",
    "worker.after_run": "worker: the handler has returned, its outcome is nowhere",
    "worker.after_record": "worker: the outcome is in the ring, the cell still names the job",
    "worker.before_bell": "worker: outcomes are in the ring, the bell is not rung",
    "worker.before_spill": "worker: a large outcome is about to be written to its file",
    "foreman.after_fork": "foreman: a worker was forked, nobody was told",
    "foreman.after_reap": "foreman: a worker was reaped, there is no certificate",
    "foreman.before_certificate": "foreman: the certificate is in the slot, the keeper was not told",
    "relay.after_read": "relay: rows were read, the keeper does not have them",
    "relay.before_delete": "relay: rows are jobs, and stand in the application's table still",
    "relay.after_delete": "relay: rows were deleted, the keeper was not told",
    "ladder.kill": "foreman: the deadline ladder is about to send SIGKILL (action skip withholds it)",
    "master.after_fork": "master: a child was forked and is not yet known",
    "master.after_slot": "master: a slot was made and given to nobody",
    "master.before_exit": "master: everything is stopped",
}

ACTIONS = ("kill", "stop", "exit", "enospc", "eio", "skip")


def parse(text: str) -> dict[str, tuple[str, int]]:
    """What $JOBSUP_FAILPOINTS arms: point -> (action, the time it strikes; 0 is every time).

    Raises:
        ValueError: a point or an action does not exist.
    """
    armed: dict[str, tuple[str, int]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, rest = part.partition("=")
        action, _, count = rest.partition("@")
        if name not in POINTS or action not in ACTIONS:
            raise ValueError(f"JOBSUP_FAILPOINTS: {part!r} names no failpoint or no action")
        armed[name] = (action, 0 if count == "*" else int(count or 1))
    return armed


def _load(environ: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    text = environ.get("JOBSUP_FAILPOINTS")
    return parse(text) if text else {}


_armed = _load(os.environ)
_reached: dict[str, int] = {}


def hit(name: str) -> bool:
    """Pass a failpoint. Returns whether the caller shall look away (`skip`); usually it just returns False."""
    return name in _armed and _strike(name)


def rearm(environ: Mapping[str, str]) -> None:
    """Read the environment again; for tests that run a role in their own process."""
    _armed.clear()
    _reached.clear()
    _armed.update(_load(environ))


def _strike(name: str) -> bool:
    action, at = _armed[name]
    _reached[name] = _reached.get(name, 0) + 1
    if at and _reached[name] != at:
        return False
    if not _first_of_all_processes(name):
        return False
    _report(name)
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if action == "exit":
        os._exit(3)
    if action == "enospc":
        raise OSError(errno.ENOSPC, "no space left on device (failpoint)")
    if action == "eio":
        raise OSError(errno.EIO, "input/output error (failpoint)")
    return action == "skip"


def _first_of_all_processes(name: str) -> bool:
    """With JOBSUP_FAILPOINT_DIR, a point strikes once for all processes: a successor must not die of it again."""
    folder = _folder()
    if not folder or _armed[name][1] == 0:
        return True
    try:
        os.close(os.open(f"{folder}/{name}.struck", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def _folder() -> str | None:
    """Where strikes are noted, made if need be."""
    folder = os.environ.get("JOBSUP_FAILPOINT_DIR")
    if folder:
        os.makedirs(folder, exist_ok=True)
    return folder


def _report(name: str) -> None:
    """Leave a line that says who struck where, so that a test knows that its condition was met."""
    folder = _folder()
    if folder:
        fd = os.open(f"{folder}/hits", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
        os.write(fd, f"{name} {os.getpid()}\n".encode())
        os.close(fd)
