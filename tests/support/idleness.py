"""Whether anything waited while somebody who could have done it did nothing; the ledger alone decides."""

from __future__ import annotations

from tests.support.ledger import Ledger, Run

LATE_NS = 100_000_000


def waited_beside_the_idle(
    ledger: Ledger, enqueued_ns: dict[int, int], long_ms: int, late_ns: int = LATE_NS
) -> list[str]:
    """Short jobs that waited 100 ms, or `late_ns`, while a worker ran nothing.

    The ledger alone decides: a worker is idle between a run and its next, and after its last.
    """
    runs = sorted((run for listed in ledger.runs().values() for run in listed), key=lambda run: run.started_ns)
    end_ns = max(run.ended_ns or run.started_ns for run in runs)
    by_pid: dict[int, list[Run]] = {}
    for run in runs:
        by_pid.setdefault(run.pid, []).append(run)
    gaps = []
    for listed in by_pid.values():
        ends = [run.ended_ns or end_ns for run in listed]
        begins = [*(run.started_ns for run in listed[1:]), end_ns]
        gaps += [(end, begin) for end, begin in zip(ends, begins, strict=True) if begin - end > late_ns]
    found = []
    for run in runs:
        arrived = enqueued_ns.get(run.id)
        brief = run.ended_ns is not None and run.ended_ns - run.started_ns < long_ms * 500_000
        if arrived is None or not brief:
            continue
        for begin, end in gaps:
            if min(end, run.started_ns) - max(begin, arrived) > late_ns:
                found.append(f"beside the idle: job {run.id} waited while a worker was idle")
    return found
