"""What the suite needs of a backend beside its verbs: more than one handle, a death, and a look at its rows."""

from __future__ import annotations

from typing import Protocol

from supervisor.store.protocol import Store


class Backend(Protocol):
    """One database on which any number of owners work."""

    def open(self) -> Store:
        """Another owner's handle."""

    def crash(self, store: Store) -> None:
        """End a handle as a kill of its process would: nothing is committed, nothing tidied up."""

    def places(self) -> dict[int, list[str]]:
        """Every job, with every place where its id stands: found by means that the verbs do not use."""

    def complaints(self) -> list[str]:
        """What contradicts what in the committed rows."""
