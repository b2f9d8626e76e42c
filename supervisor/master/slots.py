"""The master's slots: made before anyone needs them, kept until the keeper has judged them."""

from __future__ import annotations

from supervisor.config.spec import Queue
from supervisor.observe.failpoint import hit
from supervisor.unix.slot import SPARE_SLOTS, Slot, discard_slot, first_free_number, make_slot
from supervisor.unix.users import owner_of


class Workplace:
    """A slot with what the master knows of its worker. `pid` 0: nobody has used it yet."""

    __slots__ = ("generation", "pid", "slot", "start_time")

    def __init__(self, slot: Slot, generation: int) -> None:
        self.slot = slot
        self.generation = generation
        self.pid = 0
        self.start_time = 0


class Bank:
    """Every slot that is not closed. A slot belongs to one generation (run) of its pool's foreman."""

    def __init__(self, run_dir: str, boot_id: str) -> None:
        self._run_dir = run_dir
        self._boot_id = boot_id
        self._next = first_free_number(run_dir)
        self.places: dict[int, Workplace] = {}

    def make(self, queue: Queue, generation: int) -> Slot:
        """A new slot for a pool.

        Raises:
            OSError: no descriptors, or the run_dir is full.
        """
        number = self._next
        self._next += 1
        slot = make_slot(self._run_dir, number, queue.name, self._boot_id, owner=owner_of(queue.user))
        self.places[number] = Workplace(slot, generation)
        hit("master.after_slot")
        return slot

    def missing(self, pool: str, generation: int, wanted: int) -> int:
        """How many slots a foreman must still get so that it can have `wanted` workers, and a replacement at once."""
        places = self.of(pool, generation)
        unused = sum(1 for place in places if not place.pid)
        return max(0, wanted - (len(places) - unused)) + SPARE_SLOTS - unused

    def of(self, pool: str, generation: int) -> list[Workplace]:
        """The open slots of one foreman."""
        return [place for place in self.places.values() if place.slot.pool == pool and place.generation == generation]

    def started(self, number: int, pid: int, start_time: int) -> None:
        """A worker was forked on this slot."""
        place = self.places.get(number)
        if place:
            place.pid, place.start_time = pid, start_time

    def close(self, number: int) -> None:
        """The keeper has judged the slot: delete it."""
        place = self.places.pop(number, None)
        if place:
            discard_slot(place.slot)

    @property
    def slots(self) -> list[Slot]:
        """Every open slot, in the order they were made."""
        return [place.slot for place in self.places.values()]
