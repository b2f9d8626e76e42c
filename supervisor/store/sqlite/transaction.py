"""The verbs on SQLite. Cost per job decides the speed of everything, so batches are set-based where that pays."""

from __future__ import annotations

from supervisor.store.sqlite.blocking import Blocking
from supervisor.store.sqlite.breaking import Breaking
from supervisor.store.sqlite.editing import Editing
from supervisor.store.sqlite.expiring import Expiring
from supervisor.store.sqlite.insertion import Insertion
from supervisor.store.sqlite.keys import Keys
from supervisor.store.sqlite.leasing import Leasing
from supervisor.store.sqlite.lending import Lending
from supervisor.store.sqlite.relaying import Relaying
from supervisor.store.sqlite.replaying import Replaying
from supervisor.store.sqlite.scheduling import Scheduling
from supervisor.store.sqlite.settling import Settling


class Transaction(
    Lending, Insertion, Leasing, Settling, Keys, Expiring, Breaking, Replaying, Editing, Scheduling, Blocking, Relaying
):
    """One transaction with all the verbs of `store.protocol.Tx`; made by the store, which commits it."""
