"""What people are told of: many events become few messages, and no message is lost without being counted.

Events (a job died) are gathered by kind and queue: the first is told after a second, those of the next `group`
together. Conditions (a circuit is open) are told when they begin and when they end, and only if they still differ from
what was told last. A minute has at most `limit` messages; events beyond that are counted, and told in the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from supervisor.policy.duration import show

KINDS = ("dead", "missed", "circuit", "breaker", "disk", "oldest", "store", "reload", "undead")
CONDITIONS = frozenset({"circuit", "breaker", "disk", "oldest", "store"})
"""Kinds that last, and whose end is told as well."""
MORE, TEST = "more", "test"
"""Kinds of messages that are about no event: what had to be left out, and what somebody asked for."""
FIELDS = (
    "summary", "kind", "state", "queue", "count", "ids", "first_at", "last_at", "detail", "more", "host",
)  # fmt: skip
"""What can fill an argument of the command, or a text of the payload."""
WHOLE = "alert"
"""In a payload: the whole alert."""

GATHER_MS = 1_000
SAMPLES_MAX = 5
DETAIL_MAX = 500
MINUTE_MS = 60_000
RETRY_MS = 60_000
"""What could not be told is tried again then."""

Key = tuple[str, str | None]
"""Kind and queue; None for what is about no queue."""


class Message(NamedTuple):
    """One message. `first_at_ms` and `last_at_ms` are wall time: of the first and last of these `events`, or when a
    condition began and, if it is over, ended. `ids` are samples. `left_out` counts earlier events that were not told.
    """

    kind: str
    state: Literal["event", "open", "recovered"]
    queue: str | None
    events: int
    ids: tuple[int, ...]
    first_at_ms: int
    last_at_ms: int
    detail: str
    left_out: Mapping[str, int] = {}

    @property
    def more(self) -> int:
        """How many earlier events were not told."""
        return sum(self.left_out.values())


class Open(NamedTuple):
    """A condition that was told and not taken back; since when it holds, in wall time."""

    kind: str
    queue: str | None
    since_ms: int


class _Window:
    """Events of one kind and queue that are gathered until `due_ms`."""

    __slots__ = ("count", "detail", "due_ms", "first_at_ms", "ids", "last_at_ms")

    def __init__(self, at_ms: int, due_ms: int) -> None:
        self.count = 0
        self.ids: list[int] = []
        self.first_at_ms = self.last_at_ms = at_ms
        self.detail = ""
        self.due_ms = due_ms


class _Condition:
    """`due_ms`: when what holds now is to be told; None while it is what was told last."""

    __slots__ = ("detail", "due_ms", "ended_ms", "holds", "quiet_until_ms", "since_ms", "told")

    def __init__(self, *, since_ms: int, told: bool) -> None:
        self.holds = self.told = told
        self.since_ms = self.ended_ms = since_ms
        self.quiet_until_ms = 0
        self.due_ms: int | None = None
        self.detail = ""


class Desk:
    """Everything that is to be told and was not yet. `now_ms` is of the boot clock, `at_ms` of the wall clock."""

    def __init__(self, group_ms: int, limit: int) -> None:
        self.group_ms = group_ms
        self.limit = limit
        self._windows: dict[Key, _Window] = {}
        self._quiet_until_ms: dict[Key, int] = {}
        self._conditions: dict[Key, _Condition] = {}
        self._sent: deque[int] = deque()
        self._left_out: dict[str, int] = {}
        self._left_due_ms = 0
        self.suppressed = 0
        """How many events were left out of messages of their own, so far."""

    # -- what happens ------------------------------------------------------------------------------------------

    def happened(
        self, kind: str, queue: str | None, at_ms: int, now_ms: int, *, job: int | None = None, detail: str = "",
        count: int = 1,
    ) -> None:  # fmt: skip
        """Something that has no duration; `detail` is what a message says of the last one, `job` its job."""
        key = (kind, queue)
        window = self._windows.get(key)
        if window is None:
            due_ms = max(now_ms + GATHER_MS, self._quiet_until_ms.get(key, 0))
            window = self._windows[key] = _Window(at_ms, due_ms)
        window.count += count
        window.last_at_ms = at_ms
        window.detail = detail
        if job is not None and len(window.ids) < SAMPLES_MAX:
            window.ids.append(job)

    def look(self, kind: str, queue: str | None, detail: str | None, at_ms: int, now_ms: int) -> None:
        """How a condition stands: `detail` if it holds, None if it does not."""
        holds = detail is not None
        condition = self._conditions.get((kind, queue))
        if condition is None:
            if not holds:
                return
            condition = self._conditions[kind, queue] = _Condition(since_ms=at_ms, told=False)
        if detail is not None:
            condition.detail = detail
        if holds == condition.holds:
            return
        condition.holds = holds
        if not holds:
            condition.ended_ms = at_ms
        elif not condition.told:
            condition.since_ms = at_ms
        differs = holds != condition.told
        condition.due_ms = max(now_ms + GATHER_MS, condition.quiet_until_ms) if differs else None

    def keep(self, known: Callable[[str], bool], kinds: Collection[str]) -> None:
        """Say nothing more of conditions of unknown queues, and of other kinds: they left the configuration."""
        for kind, queue in list(self._conditions):
            if kind not in kinds or not (queue is None or known(queue)):
                del self._conditions[kind, queue]

    # -- what is told ------------------------------------------------------------------------------------------

    def due(self, now_ms: int) -> list[Message]:
        """What is to be told now: conditions first, as they wait for room, while events are left out."""
        while self._sent and self._sent[0] <= now_ms - MINUTE_MS:
            self._sent.popleft()
        told = [*self._due_conditions(now_ms), *self._due_events(now_ms), *self._rest(now_ms)]
        self._quiet_until_ms = {key: until for key, until in self._quiet_until_ms.items() if until > now_ms}
        self._conditions = {
            key: one
            for key, one in self._conditions.items()
            if one.holds or one.told or one.due_ms is not None or one.quiet_until_ms > now_ms
        }
        return told

    def hurry(self, now_ms: int) -> None:
        """Let everything be due that waits: there will be no later."""
        for window in self._windows.values():
            window.due_ms = now_ms
        for condition in self._conditions.values():
            condition.due_ms = None if condition.due_ms is None else now_ms
        self._left_due_ms = now_ms

    def next_ms(self, now_ms: int) -> int | None:
        """When `due` is to be asked again; None if nothing waits."""
        moments = [window.due_ms for window in self._windows.values()]
        waiting = [one.due_ms for one in self._conditions.values() if one.due_ms is not None]
        if waiting:
            moments.append(max(min(waiting), self._room_ms(now_ms, 0)))
        if self._left_out:
            moments.append(max(self._left_due_ms, self._room_ms(now_ms, self._reserve)))
        return min(moments, default=None)

    @property
    def _reserve(self) -> int:
        """Messages that events leave to conditions: a flood of dead jobs must not hide a full disk."""
        return self.limit // 5

    def _room_ms(self, now_ms: int, reserve: int) -> int:
        """When there is room for one more message, of those that leave `reserve` to others."""
        over = len(self._sent) - (self.limit - reserve)
        return now_ms if over < 0 else self._sent[over] + MINUTE_MS

    def _has_room(self, now_ms: int, reserve: int) -> bool:
        return self._room_ms(now_ms, reserve) <= now_ms

    def _due_conditions(self, now_ms: int) -> Iterable[Message]:
        waiting = [(one.due_ms, key, one) for key, one in self._conditions.items() if one.due_ms is not None]
        for due_ms, (kind, queue), one in sorted(waiting, key=lambda each: each[0]):
            if due_ms > now_ms or not self._has_room(now_ms, 0):
                return
            one.told, one.due_ms, one.quiet_until_ms = one.holds, None, now_ms + self.group_ms
            state: Literal["open", "recovered"] = "open" if one.holds else "recovered"
            last_at_ms = one.since_ms if one.holds else max(one.since_ms, one.ended_ms)
            yield self._message(now_ms, kind, state, queue, 1, (), one.since_ms, last_at_ms, one.detail)

    def _due_events(self, now_ms: int) -> Iterable[Message]:
        due = sorted((one.due_ms, key) for key, one in self._windows.items() if one.due_ms <= now_ms)
        for _, key in due:
            window = self._windows.pop(key)
            self._quiet_until_ms[key] = now_ms + self.group_ms
            kind, queue = key
            if self._has_room(now_ms, self._reserve):
                at = (window.first_at_ms, window.last_at_ms)
                yield self._message(now_ms, kind, "event", queue, window.count, tuple(window.ids), *at, window.detail)
            else:
                self.suppressed += window.count
                self._leave_out({kind: window.count}, now_ms + self.group_ms)

    def _rest(self, now_ms: int) -> Iterable[Message]:
        """What was left out, by itself: where no other message follows that could tell of it."""
        if self._left_out and self._left_due_ms <= now_ms and self._has_room(now_ms, self._reserve):
            yield self._message(now_ms, MORE, "event", None, 0, (), 0, 0, "")

    def _message(
        self, now_ms: int, kind: str, state: Literal["event", "open", "recovered"], queue: str | None, count: int,
        ids: tuple[int, ...], first_at_ms: int, last_at_ms: int, detail: str,
    ) -> Message:  # fmt: skip
        self._sent.append(now_ms)
        left_out, self._left_out = self._left_out, {}
        return Message(kind, state, queue, count, ids, first_at_ms, last_at_ms, detail[:DETAIL_MAX], left_out)

    def _leave_out(self, counts: Mapping[str, int], due_ms: int) -> None:
        if not self._left_out:
            self._left_due_ms = due_ms
        for kind, count in counts.items():
            self._left_out[kind] = self._left_out.get(kind, 0) + count

    # -- what could not be told --------------------------------------------------------------------------------

    def returned(self, message: Message, now_ms: int) -> None:
        """A message that reached nobody: what it counted is told later, a condition again while it holds."""
        counts = dict(message.left_out)
        if message.state == "event":
            counts[message.kind] = counts.get(message.kind, 0) + message.events
        self._leave_out({kind: count for kind, count in counts.items() if count}, now_ms + RETRY_MS)
        if message.state != "event":
            self._untell(message, now_ms)

    def _untell(self, message: Message, now_ms: int) -> None:
        told = message.state == "recovered"
        key = (message.kind, message.queue)
        condition = self._conditions.get(key)
        if condition is None:
            if not told:
                return
            condition = self._conditions[key] = _Condition(since_ms=message.first_at_ms, told=True)
            condition.holds, condition.ended_ms = False, message.last_at_ms
        condition.told = told
        condition.due_ms = None if condition.holds == told else now_ms + RETRY_MS

    # -- what a successor must know ----------------------------------------------------------------------------

    def open(self) -> list[Open]:
        """Conditions that were told and not taken back."""
        return [Open(*key, one.since_ms) for key, one in self._conditions.items() if one.told]

    @property
    def sent_ms(self) -> tuple[int, ...]:
        """When the messages of the last minute went, on the boot clock."""
        return tuple(self._sent)

    def recall(self, opened: Iterable[Open], sent_ms: Iterable[int]) -> None:
        """What a predecessor had told: conditions, and when its last messages went (boot clock, oldest first)."""
        for kind, queue, since_ms in opened:
            condition = self._conditions.get((kind, queue))
            if condition is None:
                condition = self._conditions[kind, queue] = _Condition(since_ms=since_ms, told=True)
            condition.told, condition.since_ms = True, since_ms
            condition.due_ms = None if condition.holds else 0  # it has ended meanwhile: that is to be told
        self._sent.extendleft(reversed(list(sent_ms)[-self.limit :]))


# -- words -----------------------------------------------------------------------------------------------------


def summary(message: Message) -> str:
    """One sentence that says it all; it never begins with a dash."""
    text = _SENTENCES[message.kind, message.state].format(
        queue=message.queue,
        count=message.events,
        ids=", ".join(map(str, message.ids)),
        detail=message.detail,
        lasted=show(max(0, message.last_at_ms - message.first_at_ms) // 1000 * 1000),
        more=_counted(message.left_out),
    )
    if message.kind == "dead" and message.events > 1:
        text = f"{message.events:,} jobs of {message.queue} are dead, such as {_some(message.ids)}: {message.detail}"
    elif message.events > 1 and message.kind in _REPEATED:
        text = f"{message.events:,} times, the last time: {text}"
    if message.kind != MORE and message.more:
        text += f"; and {message.more:,} more"
    return text


_REPEATED = ("reload", "undead")
"""Events of which a message gathers many that have no count in their sentence."""


def _some(ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, ids))


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))


_SENTENCES: Mapping[tuple[str, str], str] = {
    ("dead", "event"): "job {ids} of {queue} is dead: {detail}",
    ("missed", "event"): "schedules of {queue} missed runs ({count}): {detail}",
    ("circuit", "open"): "the pool of {queue} has stopped, its circuit is open: {detail}",
    ("circuit", "recovered"): "the pool of {queue} works again, after {lasted}",
    ("breaker", "open"): "the breaker of {queue} is open: {detail}",
    ("breaker", "recovered"): "the breaker of {queue} is closed again, after {lasted}",
    ("disk", "open"): "the disk of the database is nearly full: {detail}",
    ("disk", "recovered"): "the disk of the database has room again, after {lasted}",
    ("oldest", "open"): "jobs of {queue} wait too long: {detail}",
    ("oldest", "recovered"): "jobs of {queue} no longer wait too long, after {lasted}",
    ("store", "open"): "the database cannot be written: {detail}",
    ("store", "recovered"): "the database can be written again, after {lasted}",
    ("reload", "event"): "a reload was refused, the old configuration stays: {detail}",
    ("undead", "event"): "a worker of {queue} does not die: {detail}",
    (MORE, "event"): "events were left out of earlier messages: {more}",
    (TEST, "event"): "this is a test of the alerts of jobsup",
}
