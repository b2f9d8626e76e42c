"""Forking, signals, reaping and privileges with real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from supervisor.unix.limits import set_file_limit
from supervisor.unix.privileges import capabilities
from supervisor.unix.reap import End, children, reap, reap_orphans, signal_name
from supervisor.unix.session import kill_session, members
from supervisor.unix.signals import Signals
from supervisor.unix.spawn import EXIT_FAULT, Spawned, spawn
from tests.support.pools import status_field
from tests.support.waiting import alive, until


def end_of(spawned: Spawned) -> End:
    """Wait for a child and reap it."""
    assert select.select([spawned.pidfd], [], [], 10)[0]
    end = reap(spawned.pid)
    assert end is not None
    os.close(spawned.pidfd)
    return end


def child(body, **options) -> Spawned:  # type: ignore[no-untyped-def]
    given = {"name": "test", "keep": (), "death_signal": None} | options
    return spawn(body, **given)


def wait_for_ever() -> int:
    signal.pause()
    return 0


# --- spawn --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 3])
def test_a_child_ends_with_what_its_body_returns(status: int) -> None:
    assert end_of(child(lambda: status))[:2] == (status, None)


def test_a_body_that_raises_never_comes_back_into_our_code(capfd: pytest.CaptureFixture[str]) -> None:
    def raising() -> int:
        raise RuntimeError("in the child")

    assert end_of(child(raising)).exit_code == EXIT_FAULT
    assert "in the child" in capfd.readouterr().err


def test_a_child_has_its_allow_list_of_descriptors_and_nothing_else() -> None:
    read, write = os.pipe()
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]

    def tell() -> int:
        os.write(write, " ".join(sorted(os.listdir("/proc/self/fd"), key=int)).encode())
        return 0

    end_of(child(tell, keep=[write]))
    listed = {int(fd) for fd in os.read(read, 4096).split()}
    for fd in (read, write, *others):
        os.close(fd)
    assert listed >= {0, 1, 2, write}
    assert len(listed - {0, 1, 2, write}) == 1, "more than the directory that was being listed"


def test_a_child_has_no_handlers_no_mask_and_no_wake_up_pipe_of_its_parent() -> None:
    signals = Signals([signal.SIGTERM, signal.SIGHUP])
    try:
        spawned = child(wait_for_ever)
        until(lambda: status_field(spawned.pid, "SigBlk") == "0" * 16)
        caught = int(status_field(spawned.pid, "SigCgt"), 16)
        assert not caught & (1 << signal.SIGTERM - 1 | 1 << signal.SIGHUP - 1)
        os.kill(spawned.pid, signal.SIGTERM)
        assert end_of(spawned).signal == signal.SIGTERM
        assert signals.caught() == set()
    finally:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)


def test_no_signal_is_lost_between_fork_and_handlers() -> None:
    for _ in range(200):
        spawned = child(wait_for_ever)
        os.kill(spawned.pid, signal.SIGTERM)
        assert end_of(spawned).signal == signal.SIGTERM


def test_a_child_leads_a_session_of_its_own() -> None:
    spawned = child(wait_for_ever)
    until(lambda: os.getsid(spawned.pid) == spawned.pid)
    os.kill(spawned.pid, signal.SIGKILL)
    end_of(spawned)


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    where = tmp_path / "pid"

    def middle() -> int:
        grandchild = child(wait_for_ever, death_signal=signal.SIGKILL)
        where.write_text(str(grandchild.pid))
        return wait_for_ever()

    spawned = child(middle)
    grandchild = int(until(lambda: where.exists() and where.read_text()))
    os.kill(spawned.pid, signal.SIGKILL)
    end_of(spawned)
    until(lambda: not alive(grandchild))


# --- reaping ------------------------------------------------------------------------------------------------


def test_a_living_child_is_not_reaped_and_a_dead_one_once() -> None:
    spawned = child(wait_for_ever)
    assert reap(spawned.pid) is None
    os.kill(spawned.pid, signal.SIGKILL)
    end = end_of(spawned)
    assert (end.exit_code, end.signal, str(end)) == (None, 9, "signal 9 (SIGKILL)")
    assert end.rss_peak_bytes > 1_000_000
    with pytest.raises(ChildProcessError):
        reap(spawned.pid)


def test_every_orphan_is_reaped_but_no_watched_child() -> None:
    dead = [child(lambda: 0) for _ in range(5)]
    for one in dead:
        assert select.select([one.pidfd], [], [], 10)[0]
    watched = dead[2].pid
    until(lambda: reap_orphans({watched}) is False)
    end = reap(watched)
    assert end is not None
    assert reap_orphans(())
    for one in dead:
        os.close(one.pidfd)
        assert one.pid not in children()


def test_signals_have_names() -> None:
    assert (signal_name(9), signal_name(250)) == ("SIGKILL", "250")
    assert str(End(3, None, 0, 0.0)) == "status 3"


def test_a_session_is_killed_with_everything_in_it() -> None:
    grandchild = "subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'])"
    code = f"import signal, subprocess, sys; {grandchild}; signal.pause()"

    def family() -> int:
        return subprocess.run([sys.executable, "-c", code], check=False).returncode

    spawned = child(family)
    until(lambda: len(members(spawned.pid)) == 3)
    assert kill_session(spawned.pid) >= 3
    assert end_of(spawned).signal == signal.SIGKILL
    assert members(spawned.pid) == []


# --- signals ------------------------------------------------------------------------------------------------


def test_signals_are_noted_once_however_often_they_came() -> None:
    signals = Signals([signal.SIGUSR1, signal.SIGUSR2])
    try:
        for _ in range(20_000):
            os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert select.select([signals], [], [], 10)[0]
        assert signals.caught() == {signal.SIGUSR1, signal.SIGUSR2}
        assert signals.caught() == set()
        assert not select.select([signals], [], [], 0)[0]
    finally:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_DFL)


# --- privileges ---------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_becoming_another_user_is_for_good_and_without_capabilities() -> None:
    program = textwrap.dedent("""
        import os
        from supervisor.unix.privileges import become, capabilities, drop_capabilities
        become("nobody")
        drop_capabilities()
        assert os.getresuid() == (65534,) * 3, os.getresuid()
        assert 0 not in os.getgroups(), os.getgroups()
        assert capabilities() == 0
        become("nobody")
        try:
            os.setuid(0)
        except PermissionError:
            print("no way back", os.environ["USER"])
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("no way back nobody\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to have capabilities")
def test_root_keeps_its_capabilities() -> None:
    program = "from supervisor.unix.privileges import *; drop_capabilities(); print(capabilities() != 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert capabilities() != 0


def test_a_file_limit_can_be_given_back() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def lower() -> int:
        set_file_limit(123)
        return 0 if resource.getrlimit(resource.RLIMIT_NOFILE) == (123, hard) else 1

    assert end_of(child(lower)).exit_code == 0
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft
