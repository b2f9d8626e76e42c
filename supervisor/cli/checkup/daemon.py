"""Checks of the daemon, its socket, its lock and its run_dir."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from supervisor.cli.checkup.finding import Finding, note, problem, warning
from supervisor.cli.checkup.site import Site

VERDICT_TIMEOUT_MS = 2_000
"""A dead worker's slot is judged and deleted within milliseconds; one that stays longer is stuck."""

NOFILE_BASE = 1_400
NOFILE_PER_WORKER = 4


def daemon_absent(site: Site) -> Iterator[Finding]:
    """Nobody runs the jobs."""
    if site.spec and not site.hello and not site.holder:
        yield note("daemon_absent", "jobsupd is not running", "start it: systemctl start jobsup, or jobsupd -c FILE")


def socket_silent(site: Site) -> Iterator[Finding]:
    """A daemon holds the database, and yet nobody answers at the socket, or not as a daemon would."""
    if site.hello or not site.socket:
        return
    why = site.silence.message if site.silence else ""
    if site.daemon_pid:
        text = f"jobsupd (pid {site.daemon_pid}) has the database, but does not answer at {site.socket}: {why}"
        yield problem("socket_silent", text, "look into its log; if it hangs, systemctl restart jobsup")
    elif _is_socket(site.socket) and _listens(site.socket):
        text = f"something listens at {site.socket} and does not answer as jobsupd does: {why}"
        yield problem("socket_silent", text, "find out which with: ss -xlp; give jobsup a run_dir of its own")


def socket_stale(site: Site) -> Iterator[Finding]:
    """A socket that a killed daemon left."""
    if site.socket and not site.holder and _is_socket(site.socket) and not _listens(site.socket):
        text = f"{site.socket} was left behind by a daemon that was killed"
        yield note("socket_stale", text, "nothing: the next start of jobsupd replaces it")


def lock_orphaned(site: Site) -> Iterator[Finding]:
    """The master has gone, and something that inherited the lock from it has not."""
    if not (site.holder and site.database):
        return
    import psutil

    if site.holder.pid and psutil.pid_exists(site.holder.pid):
        return
    holders = ", ".join(map(str, _lock_holders(site.database + ".lock"))) or "not to be found by this user"
    text = f"the writer lock names pid {site.holder.pid}, which is gone, and is still held: pid {holders}"
    yield problem("lock_orphaned", text, "if that process does not end within seconds, end it; then start jobsupd")


def run_dir_unwritable(site: Site) -> Iterator[Finding]:
    """The daemon could not make its socket and slots."""
    if site.spec is None or site.hello:
        return
    run_dir = site.spec.daemon.run_dir
    above = run_dir
    while not os.path.lexists(above) and above != "/":
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        yield problem("run_dir_unwritable", f"{above} is not a directory", "correct [daemon] run_dir, or remove it")
    elif not os.access(above, os.W_OK | os.X_OK):
        text = f"{above} cannot be written by this user" + (
            f", so {run_dir} cannot be made" if above != run_dir else ""
        )
        yield problem("run_dir_unwritable", text, "run this as the service's user; give it the directory with chown")


def socket_denied(site: Site) -> Iterator[Finding]:
    """A daemon answers others, not this user."""
    from supervisor.errors import Denied

    if isinstance(site.silence, Denied):
        yield warning("socket_denied", site.silence.message, "add yourself to the service's group, or to [access]")


def version_skew(site: Site) -> Iterator[Finding]:
    """The daemon was started before an upgrade."""
    from supervisor.version import VERSION

    if site.hello and site.hello["version"] != VERSION:
        text = f"the daemon is version {site.hello['version']}, this is {VERSION}"
        yield warning("version_skew", text, "restart jobsupd: systemctl restart jobsup")


def slots_left(site: Site) -> Iterator[Finding]:
    """Slots of workers that are gone: of an earlier run, or of a worker whose death nobody judged."""
    if site.spec is None:
        return
    found = _slots(site.spec.daemon.run_dir)
    if found and not site.hello and not site.holder:
        text = f"{len(found)} slots of an earlier run may hold outcomes that are not in the database yet"
        yield warning("slots_left", text, "start jobsupd: it reads them first. Do not delete them before")
    elif found and site.hello and (stuck := _stuck(site)):
        text = f"the workers of slots {', '.join(map(str, stuck))} are gone, and the slots have not been settled"
        yield problem("slots_left", text, "look into the log of jobsupd; systemctl restart jobsup settles them")


def nofile_low(site: Site) -> Iterator[Finding]:
    """The daemon may run out of file descriptors."""
    import psutil

    if site.spec is None:
        return
    needed = NOFILE_BASE + NOFILE_PER_WORKER * sum(pool.workers_max for pool in site.spec.workplaces.values())
    try:
        soft, hard = psutil.Process(site.daemon_pid or os.getpid()).rlimit(psutil.RLIMIT_NOFILE)
    except psutil.Error:
        return
    limit = soft if site.daemon_pid else hard
    if 0 <= limit < needed:
        who = f"jobsupd (pid {site.daemon_pid})" if site.daemon_pid else "a daemon started from here"
        text = f"{who} may open {limit} files; with all clients and workers it needs {needed}"
        yield warning("nofile_low", text, "raise LimitNOFILE= in the unit, or ulimit -n, to 16384")


CHECKS = (
    daemon_absent, socket_silent, socket_stale, socket_denied, lock_orphaned, run_dir_unwritable, version_skew,
    slots_left, nofile_low,
)  # fmt: skip


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _listens(path: str) -> bool:
    """Whether a connection is accepted, or would be if there were room, or is refused to this user only."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (BlockingIOError, PermissionError):
            return True
        except OSError:
            return False
        return True


def _lock_holders(path: str) -> list[int]:
    """Processes that have the lock file open, as far as this user may see."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(file.path == path for file in process.open_files()):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found


def _slots(run_dir: str) -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir(os.path.join(run_dir, "slots")) if name.isdigit())
    except OSError:
        return []


def _stuck(site: Site) -> list[int]:
    """Slots whose owner's process is gone and stays unjudged for longer than a verdict takes."""
    import select

    from supervisor.unix.clock import boot_ms

    deadline_ms = boot_ms() + VERDICT_TIMEOUT_MS
    stuck = _unjudged(site)
    while stuck and boot_ms() < deadline_ms:
        select.select([], [], [], 0.1)
        stuck &= _unjudged(site)
    return sorted(stuck)


def _unjudged(site: Site) -> set[int]:
    from supervisor.unix.clock import boot_id
    from supervisor.unix.lock import process_start

    assert site.spec is not None
    present = set(_slots(site.spec.daemon.run_dir))
    owners = site.rows("SELECT slot, pid, start_time, boot FROM owner WHERE pid > 0")
    return {
        row["slot"]
        for row in owners
        if row["slot"] in present and row["boot"] == boot_id() and process_start(row["pid"]) != row["start_time"]
    }
