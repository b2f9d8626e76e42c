"""What must be true of the rows of flows, by statements of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

FINAL = ("completed", "dead", "cancelled")


def misflowed(db: Any) -> Iterator[str]:
    """Contradictions among the rows of flows."""
    yield from _flows(db)
    yield from _waits(db)
    yield from _forgotten(db)
    yield from _released(db)
    for table in ("edge WHERE parent NOT IN (SELECT id FROM step) OR child NOT IN (SELECT id FROM step)",
                  "step WHERE flow NOT IN (SELECT id FROM flow)",
                  "step WHERE kind = 0 AND id NOT IN (SELECT id FROM job)",
                  "step WHERE kind = 1 AND id NOT IN (SELECT id FROM flow)",
                  "step WHERE kind = 2 AND id NOT IN (SELECT id FROM signal)",
                  "signal WHERE id NOT IN (SELECT id FROM step)",
                  "ended_step WHERE id NOT IN (SELECT id FROM step)"):  # fmt: skip
        for (rows,) in db.execute(f"SELECT count(*) FROM {table}"):
            if rows:
                yield f"{rows} rows of {table}"


def _flows(db: Any) -> Iterator[str]:
    uncounted = {row[0] for row in db.execute("SELECT id FROM ended_step WHERE counted = 0")}
    flows = {
        row[0]: row
        for row in db.execute(
            "SELECT id, state, open, steps, unfinished, dead, cancelled, skipped, finished_at FROM flow"
        )
    }
    members: dict[int, list[tuple[str | None, bool, bool]]] = {flow: [] for flow in flows}
    rows = db.execute(
        "SELECT step.id, step.flow, coalesce(outcome.state, flow.state), skipped_, tolerated FROM "
        "(SELECT id, flow, kind, skipped AS skipped_, tolerated FROM step WHERE kind < 2) AS step "
        "LEFT JOIN outcome ON outcome.id = step.id LEFT JOIN flow ON flow.id = step.id"
    ).fetchall()
    for step, flow, state, skipped, tolerated in rows:
        ended = state in FINAL and step not in uncounted
        members.setdefault(flow, []).append((state if ended else None, bool(skipped), bool(tolerated)))
    for flow, state, opened, steps, unfinished, dead, cancelled, skipped, finished_at in flows.values():
        counted = Counter(
            "skipped" if skip else "completed" if tolerated else each
            for each, skip, tolerated in members[flow]
            if each is not None
        )
        left = sum(each is None for each, _, _ in members[flow])
        wanted = (len(members[flow]), left, counted["dead"], counted["cancelled"], counted["skipped"])
        if (steps, unfinished, dead, cancelled, skipped) != wanted:
            yield f"flow {flow} counts {(steps, unfinished, dead, cancelled, skipped)}, its steps say {wanted}"
        ends = not left and not opened
        if (state in FINAL) != ends or (finished_at is not None) != ends:
            yield f"flow {flow} is {state}, finished at {finished_at}, with {left} steps left, open {opened}"


def _waits(db: Any) -> Iterator[str]:
    """A blocked step waits for exactly the edges that are not done."""
    rows = db.execute(
        "SELECT blocked.id, blocked.waits, (SELECT count(*) FROM told_edge WHERE child = blocked.id AND NOT done) "
        "FROM blocked WHERE waits > 0"
    )
    for job, waits, edges in rows.fetchall():
        if waits != edges:
            yield f"job {job} waits for {waits} steps, and has {edges} open edges"


def _forgotten(db: Any) -> Iterator[str]:
    """Nothing waits for the end of what has ended, unless that is still to be told."""
    rows = db.execute(
        "SELECT edge.child, edge.parent FROM told_edge AS edge CROSS JOIN blocked ON blocked.id = edge.child "
        "LEFT JOIN outcome ON outcome.id = edge.parent LEFT JOIN flow ON flow.id = edge.parent "
        "WHERE NOT edge.done AND blocked.waits > 0 AND (outcome.id IS NOT NULL OR flow.finished_at IS NOT NULL) "
        "AND edge.parent NOT IN (SELECT id FROM ended_step)"
    )
    for child, parent in rows.fetchall():
        yield f"job {child} waits for {parent}, which has ended, and nobody will tell it"


def _released(db: Any) -> Iterator[str]:
    """Nothing that has begun, or may, comes after a step that has not ended, unless it goes on without it."""
    rows = db.execute(
        "SELECT edge.child, edge.parent FROM told_edge AS edge JOIN step ON step.id = edge.child "
        "LEFT JOIN blocked ON blocked.id = edge.child "
        "WHERE NOT edge.done AND step.kind = 0 AND coalesce(blocked.waits, 0) = 0 "
        "AND edge.child NOT IN (SELECT child FROM told_edge WHERE policy = 2 AND done) "
        "AND edge.child NOT IN (SELECT id FROM outcome WHERE state <> 'completed')"
    )
    for child, parent in rows.fetchall():
        yield f"job {child} went on before {parent}, which it comes after, had ended"
