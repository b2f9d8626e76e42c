"""Every error a user of jobsup can meet, with its stable code, exit status and hint.

Imports nothing of ours; `jobsctl enqueue` and handlers import it, so it stays cheap.
docs/errors.md lists each code; a test compares the two.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNKNOWN = 3
EXIT_NOT_RUNNING = 4
EXIT_IO = 74
EXIT_BUSY = 75
EXIT_NEWER = 78


class JobsupError(Exception):
    """Base of all errors that jobsup raises on purpose.

    `code` is stable and is what `--json` and the wire carry; `hint` says what to do, in general (`remedy`) where
    nothing better is known; `exit_status` is what a command ends with.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = EXIT_FAILED
    remedy: ClassVar[str] = "read the message; upgrade this program if the daemon is newer"

    hint: str

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.remedy
        self.add_note(self.hint)  # tracebacks show it


class ConfigError(JobsupError):
    """The configuration cannot be used; `problems` holds every problem found, one line each."""

    code = "config"
    exit_status = EXIT_USAGE
    remedy = "correct what is listed; jobsctl config check says whether it is right then"

    def __init__(self, message: str, *, hint: str | None = None, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = problems or (message,)


class UsageError(JobsupError):
    """The request itself is malformed: an id that is no id, an empty filter, an unknown option."""

    code = "usage"
    exit_status = EXIT_USAGE
    remedy = "the help of the command, docs/python.md and docs/protocol.md say what may be given"


class UnknownQueue(JobsupError):
    """No queue of that name is in the configuration."""

    code = "unknown_queue"
    exit_status = EXIT_UNKNOWN
    remedy = "correct the name; or add the queue and run jobsctl reload"


class UnknownJob(JobsupError):
    """No job has that id: never given out, or pruned by retention."""

    code = "unknown_job"
    exit_status = EXIT_UNKNOWN
    remedy = "correct the id; retention removes jobs that have ended"


class UnknownSchedule(JobsupError):
    """No schedule of that name is in the configuration, and none was added."""

    code = "unknown_schedule"
    exit_status = EXIT_UNKNOWN
    remedy = "jobsctl cron list names those that there are"


class InvalidPayload(JobsupError):
    """The payload, or an option of the job, cannot be stored as it is."""

    code = "invalid_payload"
    exit_status = EXIT_USAGE
    remedy = "send what JSON can hold, with options that the queue takes"


class PayloadTooLarge(InvalidPayload):
    """A payload, a group or a request is above its limit; the message names the limit."""

    code = "payload_too_large"
    remedy = "keep large data elsewhere and enqueue where it is; split large groups"


class Denied(JobsupError):
    """The caller may not do this, or may not reach the socket or the database."""

    code = "denied"
    exit_status = EXIT_NOT_RUNNING
    remedy = "join the service's group, be added to [access], or run as the service's user"


class NotRunning(JobsupError):
    """This needs a running daemon, and none answers."""

    code = "not_running"
    exit_status = EXIT_NOT_RUNNING
    remedy = "start jobsupd"


class Busy(JobsupError):
    """Nothing was done; the same call may succeed later."""

    code = "busy"
    exit_status = EXIT_BUSY
    remedy = "try again later"


class QueueFull(JobsupError):
    """The queue is bounded (`max_size`) and has no room for these jobs now. Not asked again by itself, as Busy is."""

    code = "queue_full"
    exit_status = EXIT_BUSY
    remedy = "try again when some have run; or raise max_size, or set when_full"


class NotUnique(JobsupError):
    """The queue wants no two jobs that count as the same, and one of them is there already."""

    code = "not_unique"
    remedy = "look at the job that is there; on_conflict says what becomes of a second one"


class Unconfirmed(JobsupError):
    """The request was sent and the answer was lost: it may or may not have been done."""

    code = "unconfirmed"
    exit_status = EXIT_BUSY
    remedy = "look whether it was done before doing it again"


class WaitTimeout(JobsupError):
    """The job did not reach a final state in the time given."""

    code = "wait_timeout"
    exit_status = EXIT_BUSY
    remedy = "wait again; the job is not affected"


class InvalidFlow(JobsupError):
    """Steps that are no flow: a ring, a step that is not there, a condition that is no expression."""

    code = "invalid_flow"
    exit_status = EXIT_USAGE
    remedy = "docs/flows.md says what a flow may be"


class UnknownFlow(JobsupError):
    """No flow has that id, or it has no such step."""

    code = "unknown_flow"
    exit_status = EXIT_UNKNOWN
    remedy = "jobsctl flow list names those that there are"


class WrongState(JobsupError):
    """The job or queue is in a state that does not allow this."""

    code = "wrong_state"
    exit_status = EXIT_FAILED
    remedy = "jobsctl status shows how it stands"


class StaleLease(JobsupError):
    """The lease does not hold this job any more: it ran out, or the job has ended under it. Nothing was changed."""

    code = "stale"
    exit_status = EXIT_FAILED
    remedy = "drop what was done for the job, which another consumer may have; extend leases in time"


class ProtocolError(JobsupError):
    """The peer does not speak our protocol, or not a version of it that we know."""

    code = "protocol"
    remedy = "look at the path of the socket; run client and daemon of the same version"


class StoreError(JobsupError):
    """The database cannot be opened, read or written."""

    code = "store"
    exit_status = EXIT_IO
    remedy = "jobsctl doctor examines the file and its place"


class NoDatabase(StoreError):
    """There is no database yet and making one was not asked for."""

    code = "no_database"
    exit_status = EXIT_IO
    remedy = "start jobsupd once, which makes it"


class StoreHeld(StoreError):
    """Another process holds the writer lock; the message names its pid."""

    code = "store_held"
    exit_status = EXIT_BUSY
    remedy = "stop that process, or give this one a database of its own"


class StoreNewer(StoreError):
    """The database was written by a newer version of jobsup."""

    code = "store_newer"
    exit_status = EXIT_NEWER
    remedy = "install that version again, or restore a backup from before the upgrade"


class Internal(JobsupError):
    """A fault in jobsup itself; the log has the traceback."""

    code = "internal"
    remedy = "look into the daemon's log for the traceback, and report it"


def every_error() -> tuple[type[JobsupError], ...]:
    """All error classes, base first, in the order of definition."""
    found: list[type[JobsupError]] = [JobsupError]
    for error in found:
        found.extend(sub for sub in error.__subclasses__() if sub not in found)
    return tuple(found)


def error_of_code(code: str) -> type[JobsupError]:
    """The class whose stable code this is; `JobsupError` itself for a code that this version does not know."""
    return next((error for error in every_error() if error.code == code), JobsupError)
