"""The model's positive controls: faults planted in the store, each of which the machine must find."""

from __future__ import annotations

import os
from typing import Any

import pytest

from supervisor.store.sqlite import base, cache, leasing
from supervisor.store.sqlite.statements import SQL
from supervisor.store.sqlite.store import SqliteStore
from supervisor.store.sqlite.transaction import Transaction
from tests.model.planted import Plant, must_find, statement
from tests.model.test_store import StoreMachine

CAMPAIGN = os.environ.get("JOBSUP_CAMPAIGN") == "full"


def keep_cache_after_others_wrote(patch: pytest.MonkeyPatch) -> None:
    def begin(store: Any, now_ms: int) -> Transaction:
        store._db.execute("BEGIN IMMEDIATE")
        store._cache = store._cache or cache.Cache(store._db, store._discipline_of)
        return Transaction(store._db, store._cache, now_ms)

    patch.setattr(SqliteStore, "_begin", begin)


def keep_cache_after_rollback(patch: pytest.MonkeyPatch) -> None:
    roll_back = SqliteStore._roll_back

    def careless(store: SqliteStore) -> None:
        cache = store._cache
        roll_back(store)
        store._cache = cache

    patch.setattr(SqliteStore, "_roll_back", careless)


def drop_outcomes_carelessly(patch: pytest.MonkeyPatch) -> None:
    def drop(tx: Any, ids: list[int]) -> None:
        tx._db.execute(SQL.prune_outcome, (base.encode(ids).decode(),))

    patch.setattr(Transaction, "_drop_outcomes", drop)


def let_suspects_have_company(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(leasing, "SOLO", 9)


FAULTS: dict[str, Plant] = {
    "a cache that outlives a rollback": keep_cache_after_rollback,
    "a cache that outlives another owner's commit": keep_cache_after_others_wrote,
    "a lease that is not rewritten after a retry": statement("lease_rewrite", "jobs = ?2", "jobs = coalesce(jobs, ?2)"),
    "a lease that leaves its last job behind": statement("lease_cut", "<=", "<"),
    "a lease that holds what has ended": statement("lease_open", "NOT EXISTS", "1 OR NOT EXISTS"),
    "suspects in company": let_suspects_have_company,
    "priority ignored": statement("lease_select", "BY ready.band, ", "BY "),
    "due jobs in the order of ids": statement("due", "ORDER BY scheduled.due_at, ", "ORDER BY "),
    "due jobs a moment too early": statement("due", "<= ?", "<= ? + 1"),
    "a due job that stays": statement("due_remove", "id = ?", "id = -?"),
    "a cancelled job that is still handed out": statement("ready_remove", "id = ?", "id = -?"),
    "a request key never found": statement("request_get", "key = ?", "key = ? || '!'"),
    "counts that only grow": statement("tally_add", "jobs + excluded.jobs", "jobs + abs(excluded.jobs)"),
    "numbers never kept": statement("sequences_set", "= ?2", "= max(value, min(value, ?2))"),
    "a trail left behind": statement("prune_trail", "id IN", "id < 0 AND id IN"),
    "a rank that promotion does not store": statement("trail_rank", "pos = ?3", "pos = pos + 0 * ?3"),
    "a moved job counted where it was": statement("move_jobs", "queue = ?2", "queue = max(queue, min(queue, ?2))"),
    "keys that are never forgotten": statement("request_forget", "at < ?1", "at < ?1 - 9999999999"),
    "a pause that is not stored": statement("queue_put", "paused = ?2", "paused = 0 * ?2"),
    "an unblocked job that stays blocked": statement("blocked_remove", "id = ?", "id = -?"),
    "a read position that is not stored": statement("owner_advance", "read_offset = ?3", "read_offset = 0 * ?3"),
}
RARE: dict[str, Plant] = {
    "a removed job that its old lease still names": drop_outcomes_carelessly,
    "a wish to cancel forgotten": statement("trail_put", "solo = ", "cancel_at = NULL, solo = "),
    "a suspicion forgotten": statement("trail_put", "solo = excluded.solo", "solo = 0"),
    "a wish to cancel remembered for ever": statement("cancel_withdraw", "= NULL", "= cancel_at"),
    "code that lets go on what waits for other code": statement("blocked_of", "AND blocked.version = ?", "AND ? > 0"),
    "the newest unblocked first": statement("blocked_of", "BY blocked.id", "BY blocked.id DESC"),
    "a blocked job that its code looks for in its old queue": statement(
        "blocked_move", "queue = ?2", "queue = queue + 0 * ?2"
    ),
    "an error forgotten": statement("trail_put", "coalesce(excluded.last_error, last_error)", "excluded.last_error"),
}
"""Faults that take the machine ten seconds and more to find."""


@pytest.mark.parametrize("fault", [*FAULTS, *(RARE if CAMPAIGN else ())])
@pytest.mark.campaign
@pytest.mark.timeout(1_800 if CAMPAIGN else 120)
def test_the_machine_finds(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (FAULTS | RARE)[fault](monkeypatch)
    must_find(StoreMachine, examples=1_000, steps=40)
