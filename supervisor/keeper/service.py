"""The public socket's requests, each answered by the function of its type; writers wait for the next pass."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from supervisor.errors import (
    Busy,
    ConfigError,
    Denied,
    Internal,
    JobsupError,
    NotRunning,
    PayloadTooLarge,
    UsageError,
)
from supervisor.keeper import (
    answers,
    deletion,
    editing,
    flows,
    intake,
    operations,
    reasons,
    replaying,
    scaling,
    schedules,
)
from supervisor.keeper.access import allowed
from supervisor.keeper.alerting import Alerting
from supervisor.keeper.children import known_queue
from supervisor.keeper.fetches import Asked, Fetching
from supervisor.keeper.lending import not_pulled
from supervisor.keeper.outboxes import Outboxes
from supervisor.keeper.pending import Operation
from supervisor.keeper.private import Private
from supervisor.keeper.scope import Boundary, means_scope, refused_to, shown_to
from supervisor.keeper.state import State
from supervisor.keeper.strangers import unshown_flow
from supervisor.keeper.waits import FINAL_VALUES, Waits
from supervisor.store.protocol import Inserted
from supervisor.store.reader import Reader
from supervisor.unix.clock import boot_ms, boot_ns, wall_ms
from supervisor.wire import control, messages
from supervisor.wire.connection import Connection
from supervisor.wire.messages import failure, reply, request_id
from supervisor.wire.server import Server

FRAMES_PER_TURN = 256
DENIED_EVERY_MS = 60_000
READ_FOR_US = 5_000
"""So long a turn reads requests: such as are dear, as with names to be guessed, are not all read before a pass."""
JOBS_PER_TURN = 2_048
JOB_BYTES = 512
"""What a job that waits takes beside its payload; without it, a flood of tiny ones would know no bound."""
CLOGGED_BYTES = 16 * 1024 * 1024
CLOGGED_OPERATIONS = 1_000
ASKED_MAX = 10_000


class Service:
    """Reads requests, answers what can be answered, and lets the rest wait for a pass."""

    def __init__(
        self, state: State, server: Server, private: Private, reader: Reader, alerting: Alerting, outboxes: Outboxes
    ) -> None:  # fmt: skip
        self.state = state
        self.server = server
        self.private = private
        self.reader = reader
        self.boundary = Boundary(reader)
        self.alerting = alerting
        self.outboxes = outboxes
        self.waits = Waits(self._reply, self._refuse)
        self.hurried = False
        """Whether the last turn left requests that it only had no time for."""
        self._reload_count = 0
        self._denied_at_ms: dict[int, int] = {}
        self._refusing = False
        self._postponed: list[tuple[Connection, bytes]] = []
        self._handlers: dict[type, Callable[[Connection, Any], None]] = {
            messages.Enqueue: self._enqueue,
            messages.FlowStart: self._flow_start,
            messages.FlowShow: self._flow_show,
            messages.FlowList: self._flow_list,
            messages.FlowSignal: self._flow_signal,
            messages.FlowClose: self._flow_close,
            messages.FlowCancel: self._flow_cancel,
            messages.FlowRetry: self._flow_retry,
            messages.Hello: lambda conn, req: self._reply(conn, req.id, answers.hello(state)),
            messages.JobStatus: lambda conn, req: self._reply(conn, req.id, answers.job(state, reader, req.job)),
            messages.Explain: self._explain,
            messages.Status: self._status,
            messages.Wait: self._wait,
            messages.Workers: lambda conn, req: self._reply(conn, req.id, answers.workers(state)),
            messages.Tree: lambda conn, req: self._reply(conn, req.id, answers.tree(state)),
            messages.Cancel: self._cancel,
            messages.Retry: self._retry,
            messages.Pause: self._pause,
            messages.Resume: self._resume,
            messages.FreeKey: self._free_key,
            messages.Move: self._move,
            messages.Purge: self._purge,
            messages.DeadRetry: self._dead,
            messages.DeadDelete: self._dead,
            messages.DeadStop: self._dead_stop,
            messages.Edit: self._edit,
            messages.Delete: self._delete,
            messages.CronList: self._cron_list,
            messages.CronShow: self._cron_show,
            messages.CronAdd: self._cron_add,
            messages.CronRemove: self._cron,
            messages.CronPause: self._cron,
            messages.CronResume: self._cron,
            messages.CronRun: self._cron,
            messages.Reload: self._reload,
            messages.AlertsTest: self._alerts_test,
            messages.Scale: self._scale,
            messages.Fetch: self._fetch,
            messages.Extend: self._hear,
            messages.Ack: self._hear,
            messages.Fail: self._hear,
            messages.Release: self._hear,
            messages.Consumers: lambda conn, req: self._reply(conn, req.id, answers.consumers(state, reader)),
        }

    def read_requests(self) -> None:
        """Handle what has arrived, up to what a pass can take."""
        self._refusing = self.clogged
        jobs, until_ns = 0, boot_ns() + READ_FOR_US * 1_000
        self.hurried = False
        for number in range(FRAMES_PER_TURN):
            if not self.server.requests or jobs > JOBS_PER_TURN:
                return
            if number and boot_ns() >= until_ns:
                self.hurried = True
                return
            before = len(self.state.intake)
            connection, frame = self.server.requests.popleft()
            self._handle(connection, frame)
            if len(self.state.intake) > before:
                jobs += len(self.state.intake[-1].group.jobs)

    @property
    def clogged(self) -> bool:
        """Whether what was read and cannot be committed is as much as may wait: then writers are refused."""
        state = self.state
        if state.failure is None:
            return False
        weights = (pending.size_bytes + JOB_BYTES * len(pending.group.jobs) for pending in state.intake)
        return sum(weights) > CLOGGED_BYTES or len(state.operations) > CLOGGED_OPERATIONS

    def _handle(self, connection: Connection, frame: bytes) -> None:
        number, caller = None, connection
        try:
            request = messages.decode(frame)
            number = request.id
            self._check_access(request, connection)
            if self._asks_for_buffered(request):
                self.state.flush_at_ms = boot_ms()
                if isinstance(request, messages.JobStatus | messages.Wait):
                    self._postponed.append((connection, frame))
                    return
            caller, request = self.boundary.enter(connection, request, self.state.spec)
            self._handlers.get(type(request), self._unsupported)(caller, request)
        except JobsupError as error:
            self._refuse(caller, number if number is not None else request_id(frame), error)
        except Exception:  # noqa: BLE001 - one request must not end the keeper for everyone
            self.state.log.emit("keeper.fault", traceback=traceback.format_exc())
            self._refuse(connection, number, Internal("a fault in jobsup; its log has the traceback"))

    def _asks_for_buffered(self, request: messages.AnyRequest) -> bool:
        """Whether this is about a job that its client knows and the database does not know yet: it is flushed first."""
        first = next((held.group.ids[0] for held in self.state.buffer if held.group.ids), None)
        if first is None:
            return False
        newest: int = max(getattr(request, "ids", ()), default=getattr(request, "job", 0))
        return newest >= first

    def handle_postponed(self) -> None:
        """After a flush: answer those who asked for what was in it."""
        postponed, self._postponed = self._postponed, []
        for connection, frame in postponed:
            self._handle(connection, frame)

    def _check_access(self, request: messages.AnyRequest, connection: Connection) -> None:
        access = self.boundary.access(self.state.spec, connection)
        needed = [request.access]
        if isinstance(request, messages.Ack) and request.enqueue:
            needed.append("enqueue")  # what comes along must be allowed as if it stood alone
        for verbs in needed:
            if not allowed(access, verbs, connection.peer):
                op = str(request.__struct_config__.tag)
                self._note_denied(op, connection.peer.uid)
                raise Denied(f"user {connection.peer.uid} may not {op}", hint=f"[access] {verbs} lists who may")

    def _note_denied(self, op: str, uid: int) -> None:
        """Who is denied may ask as often as he likes; the log hears of it once a minute."""
        now_ms = boot_ms()
        self._denied_at_ms = {known: at for known, at in self._denied_at_ms.items() if now_ms - at < DENIED_EVERY_MS}
        if uid not in self._denied_at_ms:
            self._denied_at_ms[uid] = now_ms
            self.state.log.emit("keeper.denied", op=op, uid=uid)

    def _unsupported(self, _connection: Connection, _request: messages.AnyRequest) -> None:
        raise UsageError("this is not done over the socket", hint="use jobsctl on the host")

    def _reply(self, connection: Connection, number: int, ok: dict[str, Any]) -> None:
        self._tell(connection, number, ok)

    def _tell(self, connection: Connection, number: int, ok: dict[str, Any]) -> bool:
        """Answer a request; False if the answer fits into no frame, which is then what is said."""
        connection, ok = shown_to(connection, ok)
        try:
            connection.post(reply(number, ok))
        except PayloadTooLarge as error:
            connection.post(failure(number, error))
            return False
        return True

    def _refuse(self, connection: Connection, number: int | None, error: JobsupError) -> None:
        connection, error = refused_to(connection, error)
        if number is None:
            connection.refuse(error)
        else:
            connection.send(failure(number, error))

    def _status(self, connection: Connection, request: messages.Status) -> None:
        self._reply(connection, request.id, answers.status(self.state, self.reader, self.alerting, self.outboxes))

    # -- enqueue -----------------------------------------------------------------------------------------------

    def _enqueue(self, connection: Connection, request: messages.Enqueue) -> None:
        def answer(inserted: Inserted, acknowledged: str) -> None:
            states = [state.value for state in inserted.states]
            self._reply(
                connection,
                request.id,
                {
                    "ids": list(inserted.ids),
                    "states": states,
                    "acknowledged": acknowledged,
                    "repeated": inserted.repeated,
                    "existing": list(inserted.existing),
                },
            )

        def refuse(error: JobsupError) -> None:
            self._refuse(connection, request.id, error)

        self._check_room()
        intake.accept(self.state, request, wall_ms(), boot_ms(), answer, refuse)

    # -- flows -------------------------------------------------------------------------------------------------

    def _flow_start(self, connection: Connection, request: messages.FlowStart) -> None:
        reply, refuse = self._ways(connection, request.id)
        self._check_room()
        flows.accept(
            self.state, request, self.boundary.asking.name, wall_ms(), boot_ms(),
            lambda inserted, planned: reply(flows.answered(inserted, planned, request.into)), refuse,
        )  # fmt: skip

    def _flow_show(self, connection: Connection, request: messages.FlowShow) -> None:
        shown = self.reader.flow(request.flow, self.boundary.asking.name)
        if shown is None:
            raise unshown_flow(self.reader, request.flow, self.boundary.asking.name)
        self._reply(connection, request.id, shown)

    def _flow_list(self, connection: Connection, request: messages.FlowList) -> None:
        page = self.reader.flows(self.boundary.asking.name, before=request.before, state=request.state)
        self._reply(connection, request.id, page)

    def _on_flow(self, connection: Connection, request: Any, operation: type[flows.OnFlow], **more: Any) -> None:
        ways = self._ways(connection, request.id)
        self._start(operation(self.state, request.flow, self.boundary.asking.name, *ways, **more), request)

    def _flow_signal(self, connection: Connection, request: messages.FlowSignal) -> None:
        payload = bytes(request.payload)
        flows.check_kept(payload, flows.SIGNAL_BYTES_MAX, f"the payload of signal {request.signal}")
        self._on_flow(connection, request, flows.Signal, name=request.signal, payload=payload)

    def _flow_close(self, connection: Connection, request: messages.FlowClose) -> None:
        self._on_flow(connection, request, flows.Close)

    def _flow_cancel(self, connection: Connection, request: messages.FlowCancel) -> None:
        self._on_flow(connection, request, flows.Cancel)

    def _flow_retry(self, connection: Connection, request: messages.FlowRetry) -> None:
        self._on_flow(connection, request, flows.Retry, name=request.step)

    # -- wait --------------------------------------------------------------------------------------------------

    def _explain(self, connection: Connection, request: messages.Explain) -> None:
        scope = self.boundary.asking.name
        self._reply(connection, request.id, reasons.explain_any(self.state, self.reader, request.job, scope))

    def _wait(self, connection: Connection, request: messages.Wait) -> None:
        shown = answers.job_or_flow(self.state, self.reader, request.job, self.boundary.asking.name)
        called = "job" if "queue" in shown else "flow"
        if shown["state"] in FINAL_VALUES:
            self._reply(connection, request.id, shown)
        elif self.state.control is None:
            raise NotRunning(f"{called} {request.job} is {shown['state']}, and no daemon runs that could end it")
        else:
            self.waits.add(connection, request, boot_ms(), called)

    # -- operations --------------------------------------------------------------------------------------------

    def _start(self, operation: Operation, request: messages.Writing | None = None) -> None:
        self._check_room()
        if len(self.state.operations) >= CLOGGED_OPERATIONS:
            raise Busy(f"{CLOGGED_OPERATIONS} operations on jobs are waiting already", hint="try again later")
        if request is not None and request.within_ms is not None:
            operation.until_ms = boot_ms() + request.within_ms
        self.state.operations.append(self.boundary.bound(operation))

    def _check_room(self) -> None:
        if self._refusing:
            cause = f"the database cannot be written: {self.state.failure}"
            raise Busy(f"{cause}; too much waits for it already", hint="free the cause, then try again")

    def _ways(self, connection: Connection, number: int) -> tuple[operations.Reply, operations.Refuse]:
        return (
            lambda ok: self._reply(connection, number, ok),
            lambda error: self._refuse(connection, number, error),
        )

    def _known(self, queue: str) -> None:
        """Tell a queue without such jobs from one that does not exist; one that left the file is known by its jobs.

        Raises:
            UnknownQueue: neither the configuration nor the database knows it.
        """
        if queue not in self.reader.counts():
            known_queue(self.state.spec, queue)

    def _cancel(self, connection: Connection, request: messages.Cancel) -> None:
        self._start(operations.Cancel(self.state, request.ids, *self._ways(connection, request.id)), request)

    def _retry(self, connection: Connection, request: messages.Retry) -> None:
        ways = self._ways(connection, request.id)
        self._start(operations.Retry(self.state, request.ids, *ways, force=request.force), request)

    def _pause(self, connection: Connection, request: messages.Pause) -> None:
        known_queue(self.state.spec, request.queue)
        self._start(
            operations.Switch(self.state, request.queue, *self._ways(connection, request.id), paused=True), request
        )

    def _free_key(self, connection: Connection, request: messages.FreeKey) -> None:
        self._known(request.queue)
        ways = self._ways(connection, request.id)
        self._start(operations.Key(self.state, request.queue, request.job_key, request.action, *ways), request)

    def _resume(self, connection: Connection, request: messages.Resume) -> None:
        self._known(request.queue)
        pool = self.state.pools.get(request.queue)
        if pool is not None and pool.circuit != "closed":
            for link in (self.state.links.get(request.queue), self.state.control):
                if link:
                    link.send(control.ProbeAsked(request.queue))
        self._start(
            operations.Switch(self.state, request.queue, *self._ways(connection, request.id), paused=False), request
        )

    def _move(self, connection: Connection, request: messages.Move) -> None:
        known_queue(self.state.spec, request.new)
        self._known(request.old)
        if request.old == request.new:
            raise UsageError("the two queues are the same")
        ways = self._ways(connection, request.id)
        self._start(operations.Move(self.state, request.old, request.new, *ways), request)

    def _purge(self, connection: Connection, request: messages.Purge) -> None:
        self._known(request.queue)
        ways = self._ways(connection, request.id)
        self._start(operations.Purge(self.state, request.queue, request.state, *ways), request)

    def _dead(self, connection: Connection, request: messages.DeadRetry | messages.DeadDelete) -> None:
        if request.filter.queue is not None and not means_scope(request.filter):
            self._known(request.filter.queue)
        ways = self._ways(connection, request.id)
        if isinstance(request, messages.DeadDelete):
            letters = operations.DeadLetters(self.state, request.filter, self.reader, *ways, delete=True)
            self._start(letters, request)
        elif request.pace_jobs or request.canary or request.stop_on_failure:
            self._start(replaying.Begin(self.state, replaying.asked(request), *ways), request)
        else:
            retry = operations.DeadLetters(
                self.state, request.filter, self.reader, *ways, delete=False, limit=request.limit
            )
            self._start(retry, request)

    def _dead_stop(self, connection: Connection, request: messages.DeadStop) -> None:
        ways = self._ways(connection, request.id)
        self._start(replaying.Stop(self.state, request.replay, *ways), request)

    def _edit(self, connection: Connection, request: messages.Edit) -> None:
        self._start(editing.Change(self.state, request, *self._ways(connection, request.id)), request)

    def _delete(self, connection: Connection, request: messages.Delete) -> None:
        if request.queue is not None:
            self._known(request.queue)
        self._start(deletion.Delete(self.state, request, *self._ways(connection, request.id)), request)

    # -- consumers ---------------------------------------------------------------------------------------------

    def _fetch(self, connection: Connection, request: messages.Fetch) -> None:
        self._needs_daemon("lend jobs")
        if not known_queue(self.state.spec, request.queue).pull:
            raise not_pulled(request.queue)
        _, refuse = self._ways(connection, request.id)
        tell, scope = partial(self._tell, connection, request.id), self.boundary.asking.name
        now_ms = boot_ms()
        fetch = Fetching(connection, request, scope, tell, refuse, now_ms + request.wait_ms)
        self.state.lending.add(fetch, now_ms)

    def _hear(self, connection: Connection, request: messages.Writing) -> None:
        """Let what a consumer says wait for the next pass, in which all that is said is written at once."""
        self._needs_daemon("hear consumers")
        self._check_room()
        lending = self.state.lending
        if len(lending.asked) >= ASKED_MAX:
            raise Busy(f"{ASKED_MAX:,} consumers wait to be heard already", hint="try again later")
        until_ms = None if request.within_ms is None else boot_ms() + request.within_ms
        ways = self._ways(connection, request.id)
        lending.asked.append(Asked(request, self.boundary.asking.name, *ways, until_ms))

    def _needs_daemon(self, what: str) -> None:
        if self.state.control is None:
            raise NotRunning(f"no daemon runs that could {what}", hint="start jobsupd")

    # -- schedules ---------------------------------------------------------------------------------------------

    def _cron_list(self, connection: Connection, request: messages.CronList) -> None:
        if self._taken_in():
            self._reply(connection, request.id, schedules.listed(self.state, self.reader, request.after, wall_ms()))
        else:
            ways = self._ways(connection, request.id)
            self._start(schedules.LookAtMany(self.state, request.after or "", *ways, self.reader))

    def _cron_show(self, connection: Connection, request: messages.CronShow) -> None:
        if self._taken_in():
            self._reply(connection, request.id, schedules.one(self.state, self.reader, request.name, wall_ms()))
        else:
            ways = self._ways(connection, request.id)
            self._start(schedules.Look(self.state, request.name, *ways, self.reader))

    def _taken_in(self) -> bool:
        """Whether the rows have the schedules of the configuration; where no daemon runs, they may not."""
        return self.state.timetable.taken is self.state.spec

    def _cron_add(self, connection: Connection, request: messages.CronAdd) -> None:
        ways = self._ways(connection, request.id)
        self._start(schedules.Add(self.state, request.name, *ways, self.reader, request.schedule), request)

    def _cron(
        self,
        connection: Connection,
        request: messages.CronRemove | messages.CronPause | messages.CronResume | messages.CronRun,
    ) -> None:
        reply, refuse = self._ways(connection, request.id)
        operation: Operation
        match request:
            case messages.CronRemove():
                operation = schedules.Remove(self.state, request.name, reply, refuse)
            case messages.CronPause():
                operation = schedules.Pause(self.state, request.name, reply, refuse, self.reader)
            case messages.CronResume():
                operation = schedules.Resume(self.state, request.name, reply, refuse, self.reader)
            case messages.CronRun():
                operation = schedules.Run(self.state, request.name, reply, refuse)
        self._start(operation, request)

    def _reload(self, connection: Connection, request: messages.Reload) -> None:
        if self.state.control is None:
            raise NotRunning("no daemon is running that could reload")
        self._reload_count += 1
        number = self._reload_count

        def answer(done: control.ReloadDone) -> None:
            if done.problems:
                error = ConfigError("\n".join(done.problems), hint="the old configuration stays in force")
                self._refuse(connection, request.id, error)
                return
            shown = {name: list(getattr(done, name)) for name in (*control.RELOADED, "warnings")}
            self._reply(connection, request.id, shown)

        self.private.reloads[number] = answer
        self.state.control.send(control.ReloadAsked(number))

    def _alerts_test(self, connection: Connection, request: messages.AlertsTest) -> None:
        if self.state.control is None:
            raise NotRunning("no daemon is running that could send an alert")
        self.alerting.test(*self._ways(connection, request.id))

    def _scale(self, connection: Connection, request: messages.Scale) -> None:
        state = self.state
        if request.queue in state.workplaces:
            pool = state.workplaces[request.queue]
        else:
            known_queue(state.spec, request.queue)
            pool = state.workplaces[state.pool_of(request.queue) or request.queue]
        scaling.check(pool, request.workers)
        link = state.links.get(pool.name)
        if link is None:
            raise NotRunning(f"pool {pool.name} does not run", hint="jobsctl tree shows what does")
        link.send(control.ScaleAsked(request.workers))
        self._reply(connection, request.id, {"queue": request.queue, "workers": request.workers})

    def refuse_all(self, cause: str) -> None:
        """At the end: what cannot be done any more is refused."""
        for pending in (*self.state.intake, *(pending for pending, _ in self.state.unfit)):
            pending.refuse(Busy(cause))
        self.state.unfit.clear()
        for operation in self.state.operations:
            operation.refuse(Busy(cause))
        for asked in self.state.lending.asked:
            asked.refuse(Busy(cause))
        self.state.lending.asked.clear()
        for connection, frame in self._postponed:
            self._refuse(connection, request_id(frame), Busy(cause))
        self._postponed.clear()
        self.state.intake.clear()
        self.state.operations.clear()
