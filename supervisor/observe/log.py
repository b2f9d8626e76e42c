"""The one file that words log lines and writes them: text or JSON, to stderr, the journal or a file.

One write per line, never buffered, never raising: a log that cannot be written stops nobody.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from supervisor.errors import UsageError
from supervisor.observe.events import Event, event
from supervisor.observe.sanitise import sanitise
from supervisor.observe.sink import Journal, Sink, file_sink, stderr_sink

DEBUG, INFO, WARNING, ERROR = 7, 6, 4, 3
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
LINE_BYTES_MAX = 8192
JOURNAL_FIELDS = {"queue": "JOBSUP_QUEUE", "pool": "JOBSUP_POOL", "id": "JOBSUP_JOB_ID", "slot": "JOBSUP_SLOT"}

WORDING: dict[str, tuple[int, str]] = {
    "master.started": (INFO, "jobsupd {version} started with {queues} queues of {file}, pid {pid}"),
    "master.ready": (INFO, "ready: {pools} pools for {workers} workers; open circuits: {broken}"),
    "master.stopping": (INFO, "stopping ({reason}); jobs have {grace_s} s to finish{sooner}"),
    "master.stopped": (INFO, "stopped"),
    "master.escalated": (ERROR, "giving up: {reason}"),
    "master.state": (INFO, "state: {state}"),
    "master.slept": (WARNING, "was not running for {seconds} s, as in a suspend: nobody is blamed for that time"),
    "master.role_died": (WARNING, "{role} (pid {pid}) ended with {status}; {then}"),
    "master.killing": (WARNING, "killing {role}: {reason}"),
    "master.no_slots": (ERROR, "no spare slot can be made for pool {pool}: {error}; trying again"),
    "reload.done": (
        INFO,
        "reloaded; added: {added}; removed: {removed}; changed: {changed}; retuned: {retuned}; settings: {settings}",
    ),
    "reload.refused": (ERROR, "reload refused, the old configuration stays: {problem}"),
    "config.warning": (WARNING, "{text}"),
    "keeper.ready": (INFO, "keeper ready: SQLite {sqlite}, {jobs} jobs unfinished, {adopted} leases adopted"),
    "keeper.unopened": (ERROR, "the database cannot be used: {error}"),
    "keeper.store_failing": (ERROR, "the database cannot be written: {error}; nothing is acknowledged until it can"),
    "keeper.store_recovered": (INFO, "the database can be written again after {seconds} s"),
    "keeper.store_lost": (ERROR, "the database {path} was {what}; stopping"),
    "flow.ended": (INFO, "flow {id}{called} is {state}"),
    "job.parked": (WARNING, "job {id} of {queue} is blocked, and so are others of its task: {why}"),
    "keeper.verdict": (INFO, "worker {pid} of {pool} ended ({cause}): {jobs}"),
    "keeper.discharge": (DEBUG, "worker {pid} of {pool} ended ({cause}): {jobs}"),
    "keeper.lease_over": (WARNING, "consumer {consumer} of {queue} was not heard of in time (lease {token}): {jobs}"),
    "keeper.stale": (WARNING, "a late report about job {id} changed nothing: its lease {token} is over"),
    "keeper.ring_damaged": (ERROR, "the outcome ring of worker {pid} of {pool} is damaged: {error}"),
    "keeper.no_room": (ERROR, "a job of {pool} waits: {error}; trying again"),
    "keeper.undertaking": (WARNING, "the master is gone; ending {workers} workers and committing what is accepted"),
    "keeper.finished": (INFO, "keeper finished: {committed} jobs committed at the end, {settled} outcomes settled"),
    "keeper.unwritten": (ERROR, "{count} accepted jobs could not be written before the end: {error}"),
    "keeper.checkpoint": (DEBUG, "checkpoint: {pages} pages, {mode}"),
    "keeper.checkpoint_failing": (WARNING, "the WAL cannot be moved into the database, and grows: {error}"),
    "keeper.clock_set": (WARNING, "the wall clock was set by {seconds} s; running jobs keep their time"),
    "keeper.pruned": (DEBUG, "retention removed {count} jobs"),
    "keeper.fault": (ERROR, "fault in the keeper: {traceback}"),
    "keeper.denied": (WARNING, "denied {op} to uid {uid}"),
    "schedule.fired": (DEBUG, "schedule {schedule} enqueued job {id} of {queue} for {due}"),
    "schedule.skipped": (INFO, "schedule {schedule} did not run at {due}: {reason}"),
    "schedule.waits": (INFO, "schedule {schedule} will run for {due} when job {id} has ended"),
    "schedule.missed": (WARNING, "schedule {schedule} missed {missed} runs up to {until}; {made_good} ran late"),
    "schedule.failed": (ERROR, "schedule {schedule} could not run at {due}: {reason}"),
    "schedule.unusable": (ERROR, "schedule {schedule} is at rest: {reason}"),
    "schedule.replaced": (
        WARNING,
        "schedule {schedule} was added by a client; the one in the configuration replaces it",
    ),
    "job.dead": (WARNING, "job {id} of {queue} is dead after attempt {attempt}: {message}"),
    "job.retry": (INFO, "job {id} of {queue} failed in attempt {attempt}, again in {delay_s} s: {message}"),
    "replay.ended": (
        INFO,
        "replay {id} {state}: {released} of {matched} released, {completed} completed, {failed} failed; {reason}",
    ),
    "breaker.open": (WARNING, "queue {queue}: breaker open for {cooldown_s} s, then a probe: {reason}"),
    "breaker.probe": (INFO, "queue {queue}: job {id} is the probe of the breaker"),
    "breaker.closed": (INFO, "queue {queue}: breaker closed"),
    "callback.dropped": (WARNING, "the callback about job {id} to queue {queue} was dropped: {error}"),
    "job.snoozed": (INFO, "job {id} of {queue} runs again in {delay_s} s, without charge (on_error): {message}"),
    "pool.ready": (INFO, "pool {pool}: {ready} of {workers} workers ready"),
    "pool.scaled": (INFO, "pool {pool} scaled from {before} to {after}: {reason}"),
    "pool.circuit": (ERROR, "pool {pool}: circuit {circuit}: {reason}"),
    "pool.worker_died": (WARNING, "pool {pool}: worker {pid} on slot {slot} ended with {status}"),
    "pool.ladder": (WARNING, "pool {pool}: job {job} on worker {pid} is past its deadline: {step}"),
    "worker.output_dropped": (WARNING, "worker {pid} of {pool} writes too much: the rest of this second is left out"),
    "worker.output": (INFO, "worker {pid} of {pool}: {line}"),
    "pool.unpreloaded": (WARNING, "pool {pool} runs unpreloaded: {reason}"),
    "alert.sent": (INFO, "alert sent ({how}): {summary}"),
    "alert.failed": (ERROR, "an alert could not be sent: {error}; it was: {summary}"),
    "alert.retry": (WARNING, "the alert command failed, trying once more: {error}"),
    "outbox.opened": (INFO, "outbox {outbox}: {database} is open"),
    "outbox.unusable": (WARNING, "outbox {outbox}: {error}; it is tried again"),
    "outbox.unreadable": (ERROR, "outbox {outbox}: its rows, as its relay sent them, cannot be read: {error}"),
    "outbox.refused": (WARNING, "outbox {outbox}: row {id} for {queue} cannot become a job: {error}"),
    "outbox.refused_more": (WARNING, "outbox {outbox}: {count} more rows were refused; jobsctl outbox list shows them"),
    "outbox.unwatched": (WARNING, "outbox {outbox} is not watched, and looked at at intervals only: {error}"),
    "log.reopened": (INFO, "log reopened"),
    "log.not_reopened": (ERROR, "the log could not be reopened, and goes on where it was: {error}"),
    "log.lost": (WARNING, "{count} lines of the log were lost: nobody took them"),
}


class Log:
    """Writes events. The master's is shared by the foremen; the keeper makes its own."""

    def __init__(self, target: str, level: str, form: str, now_ms: Callable[[], int]) -> None:
        self._where = target
        self._now_ms = now_ms
        self._threshold = LEVELS[level]
        self._form = form
        self._sink = self._open()
        self._lost = 0
        self.role = "master"

    def emit(self, name: str, **facts: Any) -> None:
        """Write one event as one line."""
        self.write(event(name, **facts))

    def write(self, what: Event) -> None:
        """Write an event, if its level is wanted. Never raises."""
        level, wording = WORDING[what.name]
        if level > self._threshold:
            return
        text = sanitise(wording.format_map(what.facts))
        data = self._journal_fields(what, level, text) if self._to_journal else self._line(what, level, text)
        try:
            self._sink.write(data)
        except OSError:
            self._lost += 1  # a log that takes no more must not hold up, or end, who writes it
            return
        if self._lost:
            lost, self._lost = self._lost, 0
            self.emit("log.lost", count=lost)

    def reopen(self) -> None:
        """Open the file anew (SIGUSR1, after logrotate has moved it); where that fails, go on with the old one."""
        old = self._sink
        try:
            self._sink = self._open()
        except UsageError as error:
            self.emit("log.not_reopened", error=error.message)
            return
        old.close()
        self.emit("log.reopened")

    def keep_fds(self) -> tuple[int, ...]:
        """The descriptors that a child of ours must keep to be able to log."""
        return self._sink.fds

    @property
    def _to_journal(self) -> bool:
        return isinstance(self._sink, Journal)

    def close(self) -> None:
        """Close what lines are written to; nothing is logged any more."""
        self._sink.close()

    def _open(self) -> Sink | Journal:
        if self._where == "journald" or (self._where == "auto" and _stderr_is_journal()):
            return Journal()
        return stderr_sink() if self._where in ("auto", "stderr") else file_sink(self._where)

    @property
    def _line_bytes_max(self) -> int:
        limit = self._sink.line_bytes_max
        return LINE_BYTES_MAX if limit is None else min(LINE_BYTES_MAX, limit - 1)

    def _line(self, what: Event, level: int, text: str) -> bytes:
        at = datetime.fromtimestamp(self._now_ms() / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        if self._form == "json":
            who = {"level": level, "role": self.role, "pid": os.getpid()}
            fields = {"at": at, **who, "event": what.name, "message": text}
            return _json_line(fields, what.facts, self._line_bytes_max)
        line = f"{at} {self.role}[{os.getpid()}] {text}".encode("utf-8", "backslashreplace")
        return line[: self._line_bytes_max].decode("utf-8", "ignore").encode() + b"\n"

    def _journal_fields(self, what: Event, level: int, text: str) -> bytes:
        lines = [f"MESSAGE={text}", f"PRIORITY={level}", "SYSLOG_IDENTIFIER=jobsupd", f"JOBSUP_EVENT={what.name}"]
        lines.extend(f"{field}={what.facts[name]}" for name, field in JOURNAL_FIELDS.items() if name in what.facts)
        return "\n".join(lines).encode("utf-8", "backslashreplace")[:LINE_BYTES_MAX]


def _json_line(fields: dict[str, Any], facts: Mapping[str, Any], bytes_max: int) -> bytes:
    """One object on a line. What makes it too long is left out, never the end of the object: readers parse lines."""
    line = json.dumps(fields | {name: value for name, value in facts.items() if name not in fields}, default=str)
    while len(line) > bytes_max:
        fields["message"] = fields["message"][: len(fields["message"]) // 2]
        line = json.dumps({**fields, "shortened": True}, default=str)
    return line.encode() + b"\n"


def _stderr_is_journal() -> bool:
    """Whether systemd connected our stderr to the journal (it says which device and inode it is)."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        facts = os.fstat(sys.__stderr__.fileno() if sys.__stderr__ else 2)
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(facts.st_dev), str(facts.st_ino))
