"""What a worker's death does: read its ring to the end, judge what was running, give the rest back, answer."""

from __future__ import annotations

from collections import Counter

import msgspec

from supervisor.job import Failed
from supervisor.keeper import breaking
from supervisor.keeper.allowance import budgets_of
from supervisor.keeper.settling import error_of, give_back, settle_to_end, write
from supervisor.keeper.slots import KeeperSlot, Phase
from supervisor.keeper.work import Work
from supervisor.observe.failpoint import hit
from supervisor.policy import settle as policy
from supervisor.policy.on_error import CRASH
from supervisor.policy.verdict import Charge, charge
from supervisor.store.protocol import SOLO, AttemptError, Facts
from supervisor.unix.memory import Cell
from supervisor.wire.control import Answered, Certificate, Link, SlotClosed

NAMED_MAX = 10


def give_verdict(work: Work, certificate: Certificate, certifier: Link) -> None:
    """Judge one certificate; a slot that is not known any more was judged before, and is only answered."""
    hit("keeper.verdict")
    slot = work.state.slots.get(certificate.slot)
    pardon = False
    if slot is not None and slot.incarnation == certificate.incarnation:
        pardon = slot.solo and certificate.cause == "exit"
        judge(work, slot, certificate)
    work.afterwards(lambda: _answer(work, certificate, certifier, slot, pardon=pardon))


def judge(work: Work, slot: KeeperSlot, certificate: Certificate) -> None:
    """Settle what is finished, charge what was running, release the rest; forget the owner once it is gone."""
    phase, slot.phase = slot.phase, Phase.JUDGED
    work.on_failure(lambda: setattr(slot, "phase", phase))
    if slot.owner:
        settle_to_end(work, slot)
        judge_rest(work, slot.owner, slot, slot.memory.cells(), certificate)
        if certificate.gone:
            work.tx.disown(slot.owner)


def judge_rest(work: Work, owner: int, slot: KeeperSlot | None, cells: list[Cell], certificate: Certificate) -> None:
    """Charge the jobs that the cells show running and give back every other one of this owner's leases.

    `slot` is None where its memory is gone.
    """
    running = {(cell.id, cell.token): cell for cell in cells}
    together = Counter(cell.number for cell in cells)
    leases = [lease for lease in work.tx.open_leases().values() if lease.owner == owner]
    suspects = [
        (lease.token, job_id, held.mark)
        for lease in leases
        for job_id, held in lease.jobs.items()
        if (job_id, lease.token) in running
    ]
    facts = work.tx.facts({job_id for _, job_id, _ in suspects})
    for token, job_id, mark in suspects:
        cell = running[job_id, token]
        started_at_ms = work.now_ms - max(0, work.boot_ms - cell.started_ms)
        shared = 1 if mark == SOLO else together[cell.number]  # whatever its memory says, it was leased alone
        batches = slot is not None and slot.batch > 0
        _charge(work, facts[job_id], token, started_at_ms, certificate, shared, batches=batches)
        if slot:
            work.ended(slot, [job_id], token)
    for lease in leases:
        released = give_back(work, lease.token, list(lease.jobs))
        if slot:
            work.ended(slot, released, lease.token)
    charged = _listed([job_id for _, job_id, _ in suspects]) or "no job was running"
    expected = certificate.cause == "stop" and not suspects
    work.afterwards(
        lambda: work.state.log.emit(
            "keeper.discharge" if expected else "keeper.verdict",
            pid=certificate.pid,
            pool=slot.pool if slot else "an earlier run",
            cause=certificate.cause,
            jobs=charged,
        )
    )


def _listed(ids: list[int]) -> str:
    named = ", ".join(f"job {job_id}" for job_id in ids[:NAMED_MAX])
    return named + (f" and {len(ids) - NAMED_MAX} more" if len(ids) > NAMED_MAX else "")


def _charge(
    work: Work, facts: Facts, token: int, started_at_ms: int, certificate: Certificate, shared: int, *, batches: bool
) -> None:  # fmt: skip
    """Charge a job that was running. `shared`: how many jobs were in the same call, itself included.

    `batches`: in its queue there may be several.
    """
    budgets = budgets_of(work, facts)
    charged = charge(certificate.cause, facts.id, certificate.jobs, alone=shared == 1)
    if facts.cancel_at_ms is not None:
        charged = Charge.CANCELLED
    decision: policy.Decision
    error: AttemptError | None
    match charged:
        case Charge.CRASH:
            error = crash_error(certificate)
            breaking.failed(work, facts, Failed(error.message, kind=CRASH, classes=(CRASH,)))
            decision = policy.after_crash(facts.history, budgets, work.now_ms, work.state.chance())
        case Charge.FAILURE:
            failed = Failed("the job ran out of time, and its worker had to be killed", kind="timeout")
            error = _with_stacks(error_of(failed), certificate)
            if breaking.failed(work, facts, failed):
                decision, error = policy.after_outage(facts.history, budgets, work.now_ms), None
            else:
                decision = policy.after_failure(facts.history, budgets, failed, work.now_ms, work.state.chance())
                decision = policy.alone(decision) if batches else decision
        case Charge.CANCELLED:
            error = AttemptError("cancelled", "cancelled by a client while it ran")
            decision = policy.Withdraw("cancelled by a client while it ran")
        case Charge.SUSPICION:
            error = suspicion_error(certificate, shared)
            decision = policy.after_interruption(facts.history, budgets, solo=True)
        case Charge.INTERRUPTION:
            error = AttemptError("interrupted", f"interrupted: {_why(certificate)}")
            decision = policy.after_interruption(facts.history, budgets)
    write(work, facts, token, started_at_ms, decision, error)


def crash_error(certificate: Certificate) -> AttemptError:
    """What is kept of a crash: how the worker died, what it had used, and what it said last."""
    return AttemptError("crash", f"the worker {_ended(certificate)} while it ran this job", _remains(certificate))


def suspicion_error(certificate: Certificate, shared: int) -> AttemptError:
    """The same of a death that nobody knows the culprit of."""
    how = f"the worker {_ended(certificate)} while it ran this job and {shared - 1} more in one call"
    return AttemptError("interrupted", f"{how}; it runs alone from now on", _remains(certificate))


def _ended(certificate: Certificate) -> str:
    if certificate.signal is not None:
        return f"was killed by signal {certificate.signal}"
    return f"exited with status {certificate.exit_code}"


def _remains(certificate: Certificate) -> bytes:
    detail = {
        "signal": certificate.signal,
        "exit_code": certificate.exit_code,
        "rss_peak_bytes": certificate.rss_peak_bytes,
        "cpu_s": certificate.cpu_s,
        "oom": certificate.oom,
        "age_s": certificate.age_s,
        "last_output": certificate.last_output,
        "traceback": certificate.stacks,
    }
    return msgspec.json.encode(detail)


def _with_stacks(error: AttemptError | None, certificate: Certificate) -> AttemptError:
    assert error is not None
    detail = {"traceback": certificate.stacks, "signal": certificate.signal, "exit_code": certificate.exit_code}
    return error._replace(detail=msgspec.json.encode(detail))


def _why(certificate: Certificate) -> str:
    return {
        "stop": "the worker was stopped",
        "foreman": "the daemon or its pool ended",
        "timeout": "another job of its worker passed its deadline",
    }.get(certificate.cause, certificate.cause)


def _answer(work: Work, certificate: Certificate, certifier: Link, slot: KeeperSlot | None, *, pardon: bool) -> None:
    """Close the slot and tell whoever certified, and the master, whose slot it is."""
    hit("keeper.before_answer")
    state = work.state
    if certificate.gone:
        if slot is not None and state.slots.get(slot.number) is slot and slot.incarnation == certificate.incarnation:
            state.drop_slot(slot)
        if state.control is not None:
            state.control.send(SlotClosed(certificate.slot))
    certifier.send(Answered(certificate.slot, gone=certificate.gone, pardoned=pardon))
    state.wants_lease = True
