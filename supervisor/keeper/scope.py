"""What clients see through the socket of a scope: requests are translated on their way in, replies on their way out.

The one place where that is done. Behind it every name is internal (`shop/emails`), and nothing knows of scopes; before
it there are only short names, and nothing of another scope: neither its names nor its jobs nor their numbers. The main
socket is that of the scope without a name. An operation that is not in `PASSAGES` is not done in a scope at all, nor
over the main socket while there are scopes: nobody has said yet what it must not show or touch.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from supervisor.config.names import SEPARATOR, internal_name, scope_of, short_name
from supervisor.config.spec import Access, Spec
from supervisor.errors import Denied, JobsupError, NotRunning, UnknownSchedule
from supervisor.keeper.children import inner
from supervisor.keeper.pending import Operation
from supervisor.store.history import Replay
from supervisor.store.protocol import FlowStanding, Standing
from supervisor.store.reader import Reader
from supervisor.store.sqlite.transaction import Transaction
from supervisor.wire import messages
from supervisor.wire.connection import Connection, Peer

Reply = dict[str, Any]
KEY_SEPARATOR = " "
"""Between a scope and a request key: no client can send one, so no key of one scope is that of another."""
EVERYTHING = f"{SEPARATOR}*"
"""Behind the name of a scope: all of its queues."""
OF_POOLS = ("circuit", "no_worker")
"""Reasons with what a pool says of itself."""


class Scope:
    """One scope, by its name; `reader` reads the database, as the scope of a job stands there."""

    def __init__(self, name: str, reader: Reader) -> None:
        self.name = name
        self._reader = reader
        self._mention = re.compile(rf"(?<![\w./-]){re.escape(name + SEPARATOR)}(?=[a-z0-9*])")

    def owns(self, queue: str) -> bool:
        """Whether an internal name is one of this scope."""
        return scope_of(queue) == self.name

    def inner(self, queue: str) -> str:
        """The internal name of a queue that a client names.

        Raises:
            UnknownQueue: see `children.inner`.
        """
        return inner(self.name, queue)

    def check_job(self, job_id: int) -> None:
        """Refuse a job of another scope in the words for one that does not exist.

        Raises:
            UnknownJob: it is of another scope, or there is none of that id.
        """
        queue = self._reader.queue_of_job(job_id)
        if queue is None or not self.owns(queue):
            raise self._reader.unknown_job(job_id, self.name)

    def check_job_or_flow(self, number: int) -> None:
        """Refuse what is of another scope in the words for what does not exist.

        Raises:
            UnknownJob: it is of another scope, or there is none of that id.
        """
        if self._reader.flow_alone(number, self.name) is None:
            self.check_job(number)

    def schedules(self) -> Reply:
        """How many schedules it has, and which is due next."""
        return self._reader.schedules_overview(self.name)

    def said(self, text: str | None) -> str | None:
        """A sentence with the names of this scope's queues as its clients know them."""
        return self._mention.sub("", text) if self.name and text else text

    def error(self, error: JobsupError) -> JobsupError:
        """A refusal in words that this scope's clients know."""
        if not self.name:
            return error
        told = copy.copy(error)
        told.message, told.hint = self.said(error.message) or "", self.said(error.hint) or ""
        return told


class Passage(NamedTuple):
    """How a request comes in, and how its reply goes out; None: as it is."""

    enter: Callable[[Scope, Any], Any] | None = None
    leave: Callable[[Scope, Reply], Reply] | None = None


# -- requests ----------------------------------------------------------------------------------------------------


def _enqueue(scope: Scope, request: messages.Enqueue) -> messages.Enqueue:
    if not scope.name:
        scope.inner(request.queue)
        return request
    key = f"{scope.name}{KEY_SEPARATOR}{request.key}"
    return msgspec.structs.replace(request, queue=scope.inner(request.queue), key=key)


T = TypeVar("T", bound=messages.Request)


def _queue(scope: Scope, request: T) -> T:
    inner: str = scope.inner(request.queue)  # type: ignore[attr-defined] # every request that passes here has one
    return msgspec.structs.replace(request, queue=inner)


def _move(scope: Scope, request: messages.Move) -> messages.Move:
    return msgspec.structs.replace(request, old=scope.inner(request.old), new=scope.inner(request.new))


def _filter(scope: Scope, request: T) -> T:
    chosen: messages.Filter = request.filter  # type: ignore[attr-defined] # as above
    if chosen.queue is None:
        return request  # whose dead letters are meant, the operation itself is told
    named = msgspec.structs.replace(chosen, queue=scope.inner(chosen.queue))
    return msgspec.structs.replace(request, filter=named)


def _retry(scope: Scope, request: messages.DeadRetry) -> messages.DeadRetry:
    """A replay goes on by itself: what it is stored with must say which scope asked for it."""
    replay = request.pace_jobs or request.canary or request.stop_on_failure
    if replay and scope.name and request.filter.queue is None:
        everything = f"{scope.name}{EVERYTHING}"
        return msgspec.structs.replace(request, filter=msgspec.structs.replace(request.filter, queue=everything))
    return _filter(scope, request)


def means_scope(chosen: messages.Filter) -> bool:
    """Whether a filter means all queues of a scope: no client can write that."""
    return chosen.queue is not None and chosen.queue.endswith(EVERYTHING)


def within(chosen: messages.Filter) -> tuple[messages.Filter, str]:
    """A stored filter as it was asked for, and the scope that asked."""
    if means_scope(chosen):
        return msgspec.structs.replace(chosen, queue=None), scope_of(chosen.queue or "")
    return chosen, scope_of(chosen.queue or "")


def _edit(scope: Scope, request: messages.Edit) -> messages.Edit:
    return request if request.queue is None else _queue(scope, request)


def _delete(scope: Scope, request: messages.Delete) -> messages.Delete:
    return request if request.queue is None else _queue(scope, request)


def _schedule(scope: Scope, request: T) -> T:
    """The internal name of a schedule; one with a `/` is none."""
    name: str = request.name  # type: ignore[attr-defined] # as above
    if SEPARATOR in name:
        raise UnknownSchedule(f"there is no schedule {name}", hint="names of schedules have no /")
    return msgspec.structs.replace(request, name=internal_name(scope.name, name))


def _add(scope: Scope, request: messages.CronAdd) -> messages.CronAdd:
    """Its queue is named as in a table of the scope's file, and is found there."""
    queue = request.schedule.get("queue")
    if isinstance(queue, str):
        scope.inner(queue)
    return _schedule(scope, request)


def _schedules(scope: Scope, request: messages.CronList) -> messages.CronList:
    """Those of a scope stand together, behind its name; those of the main file stand among them all."""
    if not scope.name:
        return request
    return msgspec.structs.replace(request, after=internal_name(scope.name, request.after or ""))


def _job(scope: Scope, request: T) -> T:
    scope.check_job(request.job)  # type: ignore[attr-defined] # as above
    return request


def _start_flow(scope: Scope, request: messages.FlowStart) -> messages.FlowStart:
    """Its queues are named within the scope, and are found there."""
    if not scope.name:
        return request
    return msgspec.structs.replace(request, key=f"{scope.name}{KEY_SEPARATOR}{request.key}")


def _job_or_flow(scope: Scope, request: T) -> T:
    scope.check_job_or_flow(request.job)  # type: ignore[attr-defined]
    return request


# -- replies -----------------------------------------------------------------------------------------------------


def _named(scope: Scope, reply: Reply) -> Reply:  # noqa: ARG001 - the interface of replies
    return reply | {"queue": short_name(reply["queue"])}


def _named_or_flow(scope: Scope, reply: Reply) -> Reply:
    return _named(scope, reply) if "queue" in reply else reply


def _planned(scope: Scope, reply: Reply) -> Reply:
    """A schedule, whatever of it is shown."""
    told = {name: scope.said(reply[name]) for name in ("explanation", "reason") if name in reply}
    names = {name: reply[name] and short_name(reply[name]) for name in ("name", "queue") if name in reply}
    return reply | told | names


def _listed(scope: Scope, reply: Reply) -> Reply:
    """A page of schedules. Where one of another scope stands, those of this one are at their end."""
    own = [_planned(scope, schedule) for schedule in reply["schedules"] if scope.owns(schedule["name"])]
    if not scope.name:
        return reply | {"schedules": own}
    over = len(own) < len(reply["schedules"])
    following = reply["next"]
    return reply | {"schedules": own, "next": None if over or following is None else short_name(following)}


def _hello(scope: Scope, reply: Reply) -> Reply:
    queues = [short_name(name) for name in reply["queues"] if scope.owns(name)]
    return reply | {"queues": queues, "scope": scope.name or None}


def _status(scope: Scope, reply: Reply) -> Reply:
    queues = {short_name(name): _status_of(scope, queue) for name, queue in reply["queues"].items() if scope.owns(name)}
    daemon = reply["daemon"]
    if scope.name:
        # What concerns all scopes together is for those who run the daemon.
        daemon = daemon | {"reload_error": None, "stale": None}
        reply = reply | {"alerts": None, "outboxes": {}}
    return reply | {"daemon": daemon, "queues": queues, "schedules": scope.schedules()}


def _status_of(scope: Scope, queue: Reply) -> Reply:
    pool = queue["pool"]
    told = {name: scope.said(queue[name]) for name in ("reason", "scale_reason")}
    return queue | {"pool": pool and short_name(pool), **told}


def _explained(scope: Scope, reply: Reply) -> Reply:
    """What pools say of themselves may name their queue; everything else is told in short names already."""
    reasons = [_reason_told(scope, reason) for reason in reply["reasons"]]
    sentence = reply["sentence"].replace(reply["reasons"][0]["sentence"], reasons[0]["sentence"])
    return reply | {"reasons": reasons, "sentence": sentence}


def _reason_told(scope: Scope, reason: Reply) -> Reply:
    if reason["kind"] not in OF_POOLS:
        return reason
    return reason | {name: scope.said(reason[name]) for name in ("sentence", "reason")}


def _workers(scope: Scope, reply: Reply) -> Reply:
    return {"workers": [_named(scope, worker) for worker in reply["workers"] if scope.owns(worker["queue"])]}


def _tree(scope: Scope, reply: Reply) -> Reply:
    """The processes that all scopes share, and those of this one; over the main socket, all there are."""
    if not scope.name:
        return reply
    own = [node for node in reply["tree"] if node["queue"] is None or scope.owns(node["queue"])]
    return {"tree": [_node(node) for node in own]}


def _node(node: Reply) -> Reply:
    internal = node["queue"]
    if internal is None:
        return node
    name = short_name(internal)
    parent = node["parent"] and node["parent"].replace(internal, name)
    return node | {"queue": name, "path": node["path"].replace(internal, name), "parent": parent}


def _fetch(scope: Scope, request: messages.Fetch) -> messages.Fetch:
    """Its key is one of the scope."""
    inside = _queue(scope, request)
    if not scope.name or request.key is None:
        return inside
    return msgspec.structs.replace(inside, key=f"{scope.name}{KEY_SEPARATOR}{request.key}")


def _fetched(scope: Scope, reply: Reply) -> Reply:
    return reply | {"jobs": [_named(scope, job) for job in reply["jobs"]]}


def _consumers(scope: Scope, reply: Reply) -> Reply:
    return {"consumers": [_named(scope, each) for each in reply["consumers"] if scope.owns(each["queue"])]}


PASSAGES: Mapping[type, Passage] = {
    messages.Enqueue: Passage(_enqueue),
    messages.Hello: Passage(None, _hello),
    messages.JobStatus: Passage(_job, _named),
    messages.Explain: Passage(_job_or_flow, _explained),
    messages.Status: Passage(None, _status),
    messages.Wait: Passage(_job_or_flow, _named_or_flow),
    messages.FlowStart: Passage(_start_flow),
    messages.FlowShow: Passage(),
    messages.FlowList: Passage(),
    messages.FlowSignal: Passage(),
    messages.FlowClose: Passage(),
    messages.FlowCancel: Passage(),
    messages.FlowRetry: Passage(),
    messages.Workers: Passage(None, _workers),
    messages.Tree: Passage(None, _tree),
    messages.Cancel: Passage(),
    messages.Retry: Passage(),
    messages.Pause: Passage(_queue, _named),
    messages.FreeKey: Passage(_queue, _named),
    messages.Resume: Passage(_queue, _named),
    messages.Move: Passage(_move),
    messages.Purge: Passage(_queue),
    messages.DeadRetry: Passage(_retry),
    messages.DeadDelete: Passage(_filter),
    messages.DeadStop: Passage(),
    messages.Edit: Passage(_edit, _named),
    messages.Delete: Passage(_delete),
    messages.Scale: Passage(_queue, _named),
    messages.Fetch: Passage(_fetch, _fetched),
    messages.Extend: Passage(),
    messages.Ack: Passage(None, _named),
    messages.Fail: Passage(None, _named),
    messages.Release: Passage(),
    messages.Consumers: Passage(None, _consumers),
    messages.CronList: Passage(_schedules, _listed),
    messages.CronShow: Passage(_schedule, _planned),
    messages.CronAdd: Passage(_add, _planned),
    messages.CronRemove: Passage(_schedule, _planned),
    messages.CronPause: Passage(_schedule, _planned),
    messages.CronResume: Passage(_schedule, _planned),
    messages.CronRun: Passage(_schedule, _planned),
}
"""Every operation that is done in a scope."""

OF_THE_DAEMON = frozenset({messages.Reload, messages.AlertsTest})
"""Operations that concern all scopes: over the main socket only."""


# -- the boundary ------------------------------------------------------------------------------------------------


class Caller:
    """Who asked within a scope: stands for the connection until the one request is answered."""

    __slots__ = ("_leave", "connection", "scope")

    def __init__(self, connection: Connection, scope: Scope, leave: Callable[[Scope, Reply], Reply] | None) -> None:
        self.connection = connection
        self.scope = scope
        self._leave = leave

    @property
    def closed(self) -> bool:
        """Whether nobody hears the answer any more."""
        return self.connection.closed

    @property
    def peer(self) -> Peer:
        """Who it is."""
        return self.connection.peer

    def if_lost(self, call: Callable[[], None]) -> None:
        """What is to be done should nobody get the answer."""
        self.connection.if_lost(call)

    def shown(self, reply: Reply) -> Reply:
        """The reply as this scope sees it."""
        return self._leave(self.scope, reply) if self._leave else reply


class Boundary:
    """All scopes of the configuration in force, and what passes between them and the keeper."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._scopes = {"": Scope("", reader)}
        self.asking = self._scopes[""]
        """The scope whose request is being served: an operation that begins meanwhile is one of it."""

    def access(self, spec: Spec, connection: Connection) -> Access:
        """The lists that say what may be asked over this connection.

        Raises:
            NotRunning: its scope has left the configuration.
        """
        if not connection.scope:
            return spec.access
        if connection.scope not in spec.scopes:
            raise NotRunning(f"scope {connection.scope} is not in the configuration any more")
        return spec.scopes[connection.scope].access

    def enter(self, connection: Connection, request: Any, spec: Spec) -> tuple[Connection, Any]:
        """The request as the keeper knows it, and who is to be answered.

        Raises:
            UnknownQueue, UnknownJob: it names what is of another scope, or of none.
            Denied: it is not for a scope.
        """
        scope = self.asking = self._scope(connection.scope)
        passage = PASSAGES.get(type(request))
        if passage is None:
            _check_daemon(scope, request, spec)
            return connection, request
        if passage.enter is not None:
            request = passage.enter(scope, request)
        if passage.leave is None and not scope.name:
            return connection, request
        return cast("Connection", Caller(connection, scope, passage.leave)), request

    def bound(self, operation: Operation) -> Operation:
        """An operation that sees the jobs of the scope that asks for it, and no others."""
        return Within(operation, self.asking)

    def _scope(self, name: str) -> Scope:
        found = self._scopes.get(name)
        if found is None:
            found = self._scopes[name] = Scope(name, self._reader)
        return found


def _check_daemon(scope: Scope, request: Any, spec: Spec) -> None:
    """Refuse what is not for scopes, and what nobody has said how to do where there are any."""
    op = str(request.__struct_config__.tag)
    if type(request) not in OF_THE_DAEMON:
        if scope.name or spec.scopes:
            raise Denied(f"{op} is not done where there are scopes: it knows nothing of them")
    elif scope.name:
        hint = "name the main file with -c, or its socket"
        raise Denied(f"{op} concerns all scopes, and is done over the main socket only", hint=hint)


def shown_to(connection: Connection, reply: Reply) -> tuple[Connection, Reply]:
    """Where a reply goes, and how it is told there."""
    if isinstance(connection, Caller):
        return connection.connection, connection.shown(reply)
    return connection, reply


def refused_to(connection: Connection, error: JobsupError) -> tuple[Connection, JobsupError]:
    """Where a refusal goes, and how it is told there."""
    if isinstance(connection, Caller):
        return connection.connection, connection.scope.error(error)
    return connection, error


class Within:
    """An operation of a scope: jobs of others do not exist for it."""

    def __init__(self, operation: Operation, scope: Scope) -> None:
        self.operation = operation
        self.scope = scope

    @property
    def until_ms(self) -> int | None:
        """When its client stops waiting."""
        return self.operation.until_ms

    @until_ms.setter
    def until_ms(self, at_ms: int | None) -> None:
        self.operation.until_ms = at_ms

    def step(self, tx: Transaction, now_ms: int) -> Callable[[], bool]:
        """Do one step within the scope."""
        return self.operation.step(cast("Transaction", View(tx, self.scope)), now_ms)

    def refuse(self, error: JobsupError) -> None:
        """Tell the client."""
        self.operation.refuse(error)


class View:
    """A transaction in which what is of other scopes stands nowhere: operations ask where it stands before all else."""

    __slots__ = ("_scope", "_tx")

    def __init__(self, tx: Transaction, scope: Scope) -> None:
        self._tx = tx
        self._scope = scope

    def standing(self, ids: Any) -> dict[int, Standing]:
        """Where the scope's own jobs among these stand."""
        found = self._tx.standing(ids)
        return {job_id: standing for job_id, standing in found.items() if self._scope.owns(standing.queue)}

    def flow(self, flow_id: int) -> FlowStanding | None:
        """Where a flow stands, if it is the scope's own."""
        found = self._tx.flow(flow_id)
        return None if found is None or found.scope != self._scope.name else found

    def replay(self, replay_id: int) -> Replay | None:
        """A replay of dead letters, if it was begun in the scope."""
        found = self._tx.replay(replay_id)
        if found is None or within(msgspec.json.decode(found.chosen, type=messages.Filter))[1] != self._scope.name:
            return None
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)
