"""The workers of a foreman that died: ended with all they started, and certified by the master in its place."""

from __future__ import annotations

import os

import msgspec

from supervisor.master.slots import Workplace
from supervisor.unix.session import end_leftover
from supervisor.unix.slot import CERTIFICATE_FILE, open_directory, read_file
from supervisor.wire import control
from supervisor.wire.control import Link

REPEAT_MS = 200


class Burials:
    """Certificates that the keeper has not answered, sent again until it has."""

    def __init__(self) -> None:
        self._waiting: dict[int, control.Certificate] = {}
        self._again_at_ms = 0

    def bury(self, place: Workplace) -> None:
        """End what is left of a worker with its session, and certify its slot."""
        if place.pid:
            end_leftover(place.pid, place.start_time)
        self._waiting[place.slot.number] = certificate_of(place)
        self.soon()

    def answered(self, slot: int) -> None:
        """The verdict on this slot is committed."""
        self._waiting.pop(slot, None)

    def soon(self) -> None:
        """There is news, or a keeper that heard none: send at the next turn."""
        self._again_at_ms = 0

    def send(self, link: Link, now_ms: int) -> None:
        """Send again what is still unanswered, if it is time to, and the keeper reads."""
        if now_ms < self._again_at_ms:
            return
        self._again_at_ms = now_ms + REPEAT_MS
        for certificate in self._waiting.values() if not link.congested else ():
            link.send(certificate)

    @property
    def next_ms(self) -> int | None:
        """When something is to be sent again; None if all is answered."""
        return self._again_at_ms if self._waiting else None


def certificate_of(place: Workplace) -> control.Certificate:
    """What the foreman left in the slot before it died, else that it died."""
    slot = place.slot
    try:
        directory = open_directory(slot.directory)
    except OSError:
        return control.Certificate(slot.number, slot.incarnation, place.pid, "foreman")
    try:
        found = control.decode_message(read_file(directory, CERTIFICATE_FILE, control.PACKET_BYTES_MAX))
    except (OSError, msgspec.MsgspecError):
        found = None
    finally:
        os.close(directory)
    if isinstance(found, control.Certificate) and (found.slot, found.incarnation) == (slot.number, slot.incarnation):
        # A foreman that had given its worker up said that it was not gone; by now it is, with its session.
        return msgspec.structs.replace(found, gone=True)
    return control.Certificate(slot.number, slot.incarnation, place.pid, "foreman")
