"""The end of a worker: what caused it, the certificate that says so, and who must still hear of it."""

from __future__ import annotations

import signal

from supervisor.observe.failpoint import hit
from supervisor.pool.ladder import ended_by
from supervisor.pool.member import Member
from supervisor.tree.events import Exited
from supervisor.tree.restart import ending_of, excused
from supervisor.unix.oom import oom_kills
from supervisor.unix.reap import End
from supervisor.unix.slot import CERTIFICATE_FILE, write_file
from supervisor.wire.control import Certificate, Link, encode_message

EXIT, STOP = "exit", "stop"
REPEAT_MS = 200
OURS = frozenset({signal.SIGTERM, signal.SIGKILL})


def cause_of(member: Member, end: End) -> str:
    """Why it ended: the ladder, our asking, or itself. A crash on the way out is a crash all the same."""
    climbed = ended_by(member.climb, end.exit_code, end.signal)
    if climbed:
        return climbed
    asked = member.leaving and (end.exit_code == 0 or end.signal in OURS)
    return STOP if asked else EXIT


def exited(member: Member, end: End, cause: str, chance: float) -> Exited:
    """The same for the tree."""
    ordered = cause != EXIT
    unusable = member.unusable
    return Exited(
        member.child,
        member.run,
        ending_of(end.exit_code, ordered=ordered),
        excused=excused(finished_a_job=member.done > 0, ordered=ordered),
        final=unusable is not None,
        reason=unusable[0] if unusable else f"a worker ended with {end}",
        chance=chance,
    )


class MemoryShortage:
    """Whether the kernel has killed for memory since we looked last."""

    def __init__(self) -> None:
        self._seen = oom_kills()

    def explains(self, end: End, cause: str) -> bool:
        """Whether this death looks like it: a SIGKILL that we did not send, and the counter has moved."""
        before, self._seen = self._seen, oom_kills()
        moved = before is not None and self._seen is not None and self._seen > before
        return moved and cause == EXIT and end.signal == signal.SIGKILL


def certify(member: Member, cause: str, end: End | None, now_ms: int, *, oom: bool = False) -> Certificate:
    """The certificate of a worker; written into its slot first, so that it outlives us. `end` None: not gone yet."""
    climb = member.climb
    certificate = Certificate(
        member.slot,
        member.incarnation,
        member.pid,
        cause,
        exit_code=end.exit_code if end else None,
        signal=end.signal if end else None,
        jobs=member.beside(climb.job) if climb and cause == climb.cause else (),
        gone=end is not None,
        rss_peak_bytes=end.rss_peak_bytes if end else None,
        cpu_s=end.cpu_s if end else None,
        oom=oom,
        age_s=(now_ms - member.started_ms) / 1000,
        stacks=member.stacks,
        last_output=member.last_output or None,
    )
    try:
        write_file(member.folder, CERTIFICATE_FILE, encode_message(certificate))
    except OSError:
        pass  # the keeper hears it all the same; only if we died this instant would it be missed
    hit("foreman.before_certificate")
    return certificate


class Unanswered:
    """Certificates that the keeper has not answered, sent again until it has."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: dict[int, tuple[Certificate, str, int]] = {}
        self._again_at_ms = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, certificate: Certificate, child: str, run: int) -> None:
        """Send a certificate. One that says that the worker is gone takes the place of one that did not."""
        self._waiting[certificate.slot] = (certificate, child, run)
        self._link.send(certificate)

    def answered(self, slot: int, *, gone: bool) -> tuple[str, int] | None:
        """The keeper has given its verdict; returns the child and run it was about, if that was news."""
        certificate, child, run = self._waiting.get(slot, (None, "", 0))
        if certificate is None or certificate.gone != gone:
            return None
        del self._waiting[slot]
        return child, run

    def repeat(self, now_ms: int, *, at_once: bool = False) -> None:
        """Send again what is still unanswered, if it is time to."""
        if not at_once and now_ms < self._again_at_ms:
            return
        self._again_at_ms = now_ms + REPEAT_MS
        if self._link.congested:
            return  # a keeper that reads nothing yet finds what it needs in the socket
        for certificate, _, _ in self._waiting.values():
            self._link.send(certificate)

    def next_ms(self) -> int | None:
        """When something is to be sent again; None if all is answered."""
        return self._again_at_ms if self._waiting else None
