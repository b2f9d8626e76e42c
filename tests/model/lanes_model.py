"""Queues, keys and limits as plainly as they can be said: every question is answered by looking at every job.

It remembers no turns, no parked lanes and no counts, so what the store forgets to wake shows as a difference. It shares
no code with the store: only the words of `supervisor.job` and the values of `supervisor.policy.discipline`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from supervisor.job import State
from supervisor.policy.discipline import Discipline, Limit

TICKS = 1024
SHARE = 1 << 20
WAITING = (State.BLOCKED, State.SCHEDULED, State.QUEUED)


@dataclass
class Job:
    id: int
    queue: str
    key: str
    priority: int
    cost: int
    state: State
    turn: int = 0
    """When it became ready, in ticks that follow the clock."""
    front: bool = False
    """Whether it holds the head of its line."""
    due: int = 0
    holder: int | None = None
    granted_at: int = 0
    same: str | None = None
    cancel: bool = False
    tried: bool = False
    """Whether a run of it was charged to something since it came, or was revived."""

    @property
    def waits(self) -> bool:
        return self.state in (State.SCHEDULED, State.QUEUED)


@dataclass
class Line:
    """A key of a queue, or its jobs without one."""

    queue: str
    key: str
    held: int | None = None
    doom: int | None = None
    paused: bool = False
    vtime: int = 0
    present: bool = False
    """Of jobs without a key: whether they were in line when it was last looked."""
    away: bool = True
    """Whether it had nothing, or was shut, and did not come back since."""
    limited: bool = False
    """Whether it was seen at a limit of its key since it last lost its credit."""
    shut_until: int = 0


@dataclass
class Claim:
    job: int
    until: int | None
    states: tuple[State, ...]
    gone: State | None = None


@dataclass
class Bucket:
    full_us: int = 0
    steps: dict[int, int] = field(default_factory=dict)


@dataclass
class Lanes:
    rules: dict[str, Discipline]
    now: int
    jobs: dict[int, Job] = field(default_factory=dict)
    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    buckets: dict[tuple[str, str], Bucket] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    fired: dict[str, int] = field(default_factory=dict)
    """The latest due time that each schedule has decided."""
    paused: set[str] = field(default_factory=set)
    shut: dict[str, int] = field(default_factory=dict)
    clocks: dict[str, int] = field(default_factory=dict)
    next_id: int = 1
    ticks: int = 1

    # -- looking -----------------------------------------------------------------------------------------------

    def line(self, queue: str, key: str) -> Line:
        return self.lines.setdefault((queue, key), Line(queue, key))

    def ready(self, queue: str, key: str | None = None) -> list[Job]:
        return [
            job for job in self.jobs.values()
            if job.queue == queue and job.state is State.QUEUED and (key is None or job.key == key)
        ]  # fmt: skip

    def place(self, job: Job) -> tuple[int, int]:
        """Lower is sooner."""
        order = self.rules[job.queue].order
        if job.front:
            return -(10**15), job.turn
        turn = -job.turn if "lifo" in order.terms else job.turn
        if "priority" not in order.terms:
            return 0, turn
        if order.age_ms is None:
            return -job.priority, turn
        return 0, turn - job.priority * order.age_ms * TICKS

    def head(self, queue: str, key: str) -> Job | None:
        return min(self.ready(queue, key), key=lambda job: (self.place(job), job.id), default=None)

    def holders(self, limit: Limit, key: str | None) -> list[int]:
        """The jobs that run and count for a limit: those of every queue that names it."""

        def belongs(job: Job) -> bool:
            rules = self.rules[job.queue]
            if key is None:
                return any(each.name == limit.name for each in rules.limits)
            named = any(each.name == limit.name and (job.key or each.keyless) for each in rules.key_limits)
            return named and job.key == key

        return [job.id for job in self.jobs.values() if job.state is State.RUNNING and belongs(job)]

    def limits(self, queue: str, key: str) -> Iterator[tuple[Limit, str | None]]:
        rules = self.rules[queue]
        yield from ((limit, None) for limit in rules.limits)
        yield from self.key_limits(queue, key)

    def key_limits(self, queue: str, key: str) -> Iterator[tuple[Limit, str | None]]:
        yield from ((limit, key) for limit in self.rules[queue].key_limits if key or limit.keyless)

    def lets(self, limit: Limit, key: str | None, cost: int) -> bool:
        """Whether a limit lets one more through now."""
        if limit.concurrency is not None and len(self.holders(limit, key)) >= limit.concurrency:
            return False
        return limit.rate is None or self.rate_lets(limit, key, cost)

    def rate_lets(self, limit: Limit, key: str | None, cost: int) -> bool:
        rate, bucket = limit.rate, self.buckets.get((limit.name, key or ""), Bucket())
        assert rate is not None
        interval = -(-rate.period_ms * 1000 // rate.limit)
        if rate.algorithm == "window":
            cost = min(cost, rate.limit)
            return sum(self.window(limit, bucket).values()) + cost <= rate.limit
        burst = 1 if rate.algorithm == "leaky" else rate.limit
        debt = self.settled(limit, bucket) - self.now * 1000
        room = 0 if rate.algorithm == "leaky" else (burst - min(cost, burst)) * interval
        return debt <= room

    def settled(self, limit: Limit, bucket: Bucket) -> int:
        rate = limit.rate
        assert rate is not None
        interval = -(-rate.period_ms * 1000 // rate.limit)
        return min(bucket.full_us, self.now * 1000 + rate.limit * interval)

    def set_clock(self, step: int) -> None:
        """The clock was set back: no limit is used up for longer than it can be, and what is shut is so for as long."""
        self.now += step
        self.correct_buckets()
        self.shut = {queue: until + step for queue, until in self.shut.items()}
        for line in self.lines.values():
            line.shut_until += step

    def correct_buckets(self) -> None:
        """The clock, or a rate, is another one: nothing is used up for longer than it can be."""
        for (name, _), bucket in self.buckets.items():
            limit = self.limit_named(name)
            if limit is None or limit.rate is None:
                continue
            if limit.rate.algorithm != "window":
                bucket.full_us = self.settled(limit, bucket)
            elif any(end > self.now + limit.rate.period_ms for end in bucket.steps):
                bucket.steps = self.window(limit, bucket, keep_old=True)

    def limit_named(self, name: str) -> Limit | None:
        every = (limit for rules in self.rules.values() for limit in (*rules.limits, *rules.key_limits))
        return next((limit for limit in every if limit.name == name), None)

    def window(self, limit: Limit, bucket: Bucket, *, keep_old: bool = False) -> dict[int, int]:
        """Grants by the end of their step; what lies further ahead than a period counts as given now."""
        rate = limit.rate
        assert rate is not None
        kept: dict[int, int] = {}
        ahead = 0
        for end, grants in bucket.steps.items():
            if end > self.now + rate.period_ms:
                ahead += grants
            elif keep_old or end + rate.period_ms > self.now:
                kept[end] = grants
        if ahead:
            now = self.step_end(limit, self.now)
            kept[now] = min(kept.get(now, 0) + ahead, rate.limit)
        return kept

    def step_end(self, limit: Limit, at: int) -> int:
        assert limit.rate is not None
        period = limit.rate.period_ms
        return -(-(at * 64 // period + 1) * period // 64)

    def grant(self, limit: Limit, key: str | None, cost: int) -> None:
        rate = limit.rate
        if rate is None:
            return
        bucket = self.buckets.setdefault((limit.name, key or ""), Bucket())
        if rate.algorithm == "window":
            bucket.steps = self.window(limit, bucket)
            step = self.step_end(limit, self.now)
            bucket.steps[step] = bucket.steps.get(step, 0) + min(cost, rate.limit)
            return
        interval = -(-rate.period_ms * 1000 // rate.limit)
        bucket.full_us = max(self.settled(limit, bucket), self.now * 1000) + min(cost, rate.limit) * interval

    def refund(self, limit: Limit, key: str | None, job: Job) -> None:
        rate = limit.rate
        if rate is None or (limit.name, key or "") not in self.buckets:
            return
        bucket = self.buckets[limit.name, key or ""]
        if rate.algorithm == "window":
            step = self.step_end(limit, job.granted_at)
            if step in bucket.steps:
                bucket.steps[step] -= min(job.cost, rate.limit)
                if bucket.steps[step] <= 0:
                    del bucket.steps[step]
            return
        spent = min(job.cost, rate.limit) * -(-rate.period_ms * 1000 // rate.limit)
        bucket.full_us -= max(spent - max(self.now - job.granted_at, 0) * 1000, 0)

    def reasons(self, job: Job) -> list[tuple[Any, ...]]:
        """Everything that keeps a ready job waiting, in the order in which a lease would find it."""
        rules, line = self.rules[job.queue], self.line(job.queue, job.key)
        found: list[tuple[Any, ...]] = []
        if job.queue in self.paused:
            found.append(("paused",))
        if self.shut.get(job.queue, 0) > self.now:
            found.append(("shut",))
        if line.paused:
            found.append(("key_paused",))
        if line.doom is not None:
            found.append(("doomed", line.doom))
        elif line.held is not None and rules.ordered:
            found.append(("held", line.held))
        first = [one for one in self.ready(job.queue, job.key) if (self.place(one), one.id) < (self.place(job), job.id)]
        if first and job.key:
            found.append(("behind_key", len(first)))
        found += self.closed(self.key_limits(job.queue, job.key), job.cost)
        if job.key and line.shut_until > self.now:
            found.append(("shut",))
        found += self.closed(((limit, None) for limit in rules.limits), job.cost)
        if first and not job.key:
            found.append(("behind", len(first)))
        return found

    def closed(self, limits: Iterable[tuple[Limit, str | None]], cost: int) -> Iterator[tuple[Any, ...]]:
        """The limits that let none through, with who has their slots."""
        for limit, key in limits:
            holders = self.holders(limit, key)
            if limit.concurrency is not None and len(holders) >= limit.concurrency:
                yield "slots", limit.name, sorted(holders)
            if limit.rate is not None and not self.rate_lets(limit, key, cost):
                yield "rate", limit.name

    def is_shut(self, line: Line) -> bool:
        ordered = self.rules[line.queue].ordered
        return line.paused or line.doom is not None or (ordered and line.held is not None)

    def why_line_waits(self, queue: str, key: str, cost: int) -> str | None:
        """What keeps the first job of a line waiting, as far as its line is concerned."""
        line = self.line(queue, key)
        if self.is_shut(line):
            return "shut"
        if key and line.shut_until > self.now:
            return "shut for a time"
        limits = self.key_limits(queue, key)
        return next((f"limit {limit.name}" for limit, k in limits if not self.lets(limit, k, cost)), None)

    def settle_lines(self) -> None:
        """Lines that had nothing, or were shut, come back with no credit; those at a limit may lose theirs."""
        for line in self.lines.values():
            if not line.key or line.queue not in self.rules:
                continue
            head = self.head(line.queue, line.key)
            if head is None or self.is_shut(line):
                line.away = True
            elif self.why_line_waits(line.queue, line.key, 1) is None:
                if line.away and self.rules[line.queue].order.fair:
                    line.vtime, line.limited = max(line.vtime, self.clocks.get(line.queue, 0)), False
                line.away = False
            if head is not None and self.why_line_waits(line.queue, line.key, head.cost) is not None:
                line.limited = True

    def follow(self, queue: str, key: str, vtime: int) -> None:
        """Whether a line that was at a limit kept its credit is the store's choice: follow it."""
        line, clock = self.line(queue, key), self.clocks.get(queue, 0)
        if line.vtime == vtime or (line.away and max(line.vtime, vtime) <= clock):
            return
        assert line.limited, f"{queue}/{key}: {vtime} instead of {line.vtime}"
        assert line.vtime < vtime == clock, f"{queue}/{key}: {vtime} instead of {line.vtime}"
        line.vtime, line.limited = vtime, False

    def follow_home(self, queue: str, *, present: bool) -> None:
        """Whether a lease that took the last job without a key looked once more is the store's choice: follow it."""
        home = self.line(queue, "")
        if home.present and not present and not self.ready(queue, ""):
            home.present = False

    def look_home(self, queue: str) -> None:
        home = self.line(queue, "")
        if self.is_shut(home):
            return
        if not self.ready(queue, ""):
            home.present = False
        elif not home.present:
            home.present, home.vtime = True, max(home.vtime, self.clocks.get(queue, 0))

    def turn(self, job: Job) -> tuple[Any, ...]:
        order, line, place = self.rules[job.queue].order, self.line(job.queue, job.key), self.place(job)
        if not order.fair:
            return place
        if "priority" in order.terms and order.terms.index("priority") < order.terms.index("fair"):
            return place[0], line.vtime, place[1]
        return line.vtime, *place

    def candidates(self, queue: str) -> list[Job]:
        """The first job of every line that nothing of its own keeps waiting."""
        keys = {job.key for job in self.ready(queue)}
        heads = [self.head(queue, key) for key in sorted(keys)]
        return [job for job in heads if job and self.why_line_waits(queue, job.key, job.cost) is None]

    def lanes_ahead(self, job: Job) -> int:
        """How many other lines have an earlier turn than the first job of its line."""
        seen = copy.deepcopy(self)
        seen.settle_lines()
        if seen.rules[job.queue].order.fair:
            seen.look_home(job.queue)
        return [one.id for one in sorted(seen.candidates(job.queue), key=seen.turn)].index(job.id)

    def leasable(self, queue: str) -> bool:
        """Whether some job of the queue could be handed out now."""
        if queue in self.paused or self.shut.get(queue, 0) > self.now:
            return False
        first = min(self.candidates(queue), key=self.turn, default=None)
        return first is not None and self.queue_lets(queue, first)

    def queue_lets(self, queue: str, job: Job) -> bool:
        return all(self.lets(limit, None, job.cost) for limit in self.rules[queue].limits)

    # -- verbs -------------------------------------------------------------------------------------------------

    def arrive(self, job: Job, *, front: bool = False) -> None:
        self.ticks = max(self.ticks, self.now * TICKS)
        job.turn, job.state, job.front = self.ticks, State.QUEUED, front
        self.ticks += 1

    def waiting(self, queue: str) -> int:
        return sum(1 for job in self.jobs.values() if job.queue == queue and job.state in WAITING)

    def insert(self, queue: str, new: list[tuple[str, int, int | None, int, str | None]]) -> list[int] | str:
        """Ids of the group's jobs, or why it is refused. A job: key, priority, due, cost, what it is compared by."""
        rules, jobs = self.rules[queue], []
        found = [self.blocker(same) for *_, same in new]
        if rules.unique and rules.unique.on_conflict == "refuse" and any(found):
            return "not_unique"
        fresh: dict[str | None, int] = {}
        for at, one in enumerate(new):
            if not rules.unique:
                fresh[f"{at}"] = at
            elif found[at] is None:
                fresh.setdefault(one[4], at)
        if rules.max_size is not None:
            over = self.waiting(queue) + len(fresh) - rules.max_size
            if over > 0 and (len(fresh) > rules.max_size or rules.when_full != "drop_oldest"):
                return "queue_full"
            for job_id in sorted(i for i, job in self.jobs.items() if job.queue == queue)[:]:
                if over > 0 and self.jobs[job_id].state in WAITING:
                    self.withdraw(self.jobs[job_id])
                    over -= 1
        self.ticks = max(self.ticks, self.now * TICKS)
        for at in fresh.values():
            key, priority, due, cost, same = new[at]
            job = Job(self.next_id, queue, key, priority, cost, State.SCHEDULED, same=same)
            self.next_id += 1
            self.jobs[job.id] = job
            self.line(queue, key)
            if due is not None and due > self.now:
                job.due, job.turn = due, self.ticks
                self.ticks += 1
            else:
                self.arrive(job)
            jobs.append((at, job.id))
            if rules.unique:
                until = None if rules.unique.period_ms is None else self.now + rules.unique.period_ms
                self.claims[same or ""] = Claim(job.id, until, rules.unique.states)
        by_place = dict(jobs)
        by_same = {new[at][4]: job_id for at, job_id in jobs}
        ids = [by_place.get(at) or found[at] or by_same[one[4]] for at, one in enumerate(new)]
        if rules.unique and rules.unique.on_conflict == "replace":
            for at, job_id in enumerate(ids):
                if at not in by_place:
                    self.replace(self.jobs.get(job_id), new[at], rules.unique.replace)
        return ids

    def replace(
        self, job: Job | None, new: tuple[str, int, int | None, int, str | None], fields: tuple[str, ...]
    ) -> None:
        if job is None or job.state not in WAITING or job.tried:
            return
        _, priority, due, _, _ = new
        moved = "due_at" in fields or ("priority" in fields and priority != job.priority and job.state is State.QUEUED)
        job.priority = priority if "priority" in fields else job.priority
        if not moved:
            return
        later = due if due is not None and due > self.now else None
        if "due_at" not in fields:
            later = None
        line = self.line(job.queue, job.key)
        front = line.held == job.id and later is None
        line.held = None if front else line.held
        self.arrive(job, front=front)
        if later is not None:
            job.state, job.due = State.SCHEDULED, later

    def blocker(self, same: str | None) -> int | None:
        claim = self.claims.get(same or "")
        if claim is None:
            return None
        if claim.until is not None:
            return claim.job if self.now < claim.until else None
        state = self.jobs[claim.job].state if claim.job in self.jobs else claim.gone
        return claim.job if state in claim.states else None

    def lease(self, queue: str, token: int, jobs_max: int) -> list[Job]:
        """What is handed out: one after another, each the first of what may come now."""
        taken: list[Job] = []
        if queue in self.paused or self.shut.get(queue, 0) > self.now:
            return taken
        self.settle_lines()
        plain = not (self.rules[queue].limits or self.rules[queue].key_limits or self.rules[queue].order.fair)
        if not plain:
            self.look_home(queue)
        clock = self.clocks.get(queue, 0)
        while len(taken) < jobs_max:
            job = min(self.candidates(queue), key=self.turn, default=None)
            if job is None or not self.queue_lets(queue, job):
                break
            for limit, key in self.limits(queue, job.key):
                self.grant(limit, key, job.cost)
            job.state, job.holder, job.granted_at = State.RUNNING, token, self.now
            line = self.line(queue, job.key)
            if self.rules[queue].order.fair:
                clock = max(clock, line.vtime)
                line.vtime += SHARE // self.rules[queue].weights.get(job.key, 1)
            taken.append(job)
        self.clocks[queue] = clock
        self.settle_lines()
        return taken

    def held(self, token: int) -> list[Job]:
        return [job for job in self.jobs.values() if job.state is State.RUNNING and job.holder == token]

    def complete(self, job: Job) -> None:
        job.state = State.COMPLETED

    def fail(self, job: Job, due: int) -> None:
        job.state, job.due, job.tried = State.SCHEDULED, due, True
        if self.rules[job.queue].ordered:
            self.line(job.queue, job.key).held = job.id

    def die(self, job: Job) -> None:
        job.state, job.tried = State.DEAD, True
        rules, line = self.rules[job.queue], self.line(job.queue, job.key)
        if rules.ordered and rules.after_dead != "skip":
            line.held = job.id
            line.doom = job.id if rules.after_dead == "dead_letter" else None

    def release(self, job: Job) -> None:
        """It was not begun: it stands where it stood, and nothing was spent."""
        job.state = State.QUEUED
        for limit, key in self.limits(job.queue, job.key):
            self.refund(limit, key, job)

    def park(self, job: Job) -> None:
        """It was not begun, as no code knows its task: it waits, with nothing spent, and holds its line."""
        self.release(job)
        job.state = State.BLOCKED
        if self.rules[job.queue].ordered:
            self.line(job.queue, job.key).held = job.id

    def unblock(self, queue: str, jobs_max: int) -> int:
        """Code has arrived: what waited for it is ready, the oldest first."""
        blocked = sorted((job for job in self.jobs.values() if job.queue == queue), key=lambda job: job.id)
        chosen = [job for job in blocked if job.state is State.BLOCKED][:jobs_max]
        for job in chosen:
            line = self.line(job.queue, job.key)
            front = line.held == job.id
            line.held = None if front else line.held
            self.arrive(job, front=front)
        return len(chosen)

    def interrupt(self, job: Job) -> None:
        job.state, job.tried = State.QUEUED, True

    def promote(self, jobs_max: int) -> int:
        due = [job for job in self.jobs.values() if job.state is State.SCHEDULED and job.due <= self.now]
        due.sort(key=lambda job: (job.due, job.id))
        for job in due[:jobs_max]:
            line = self.line(job.queue, job.key)
            front = line.held == job.id
            line.held = None if front else line.held
            self.arrive(job, front=front)
        return len(due[:jobs_max])

    def withdraw(self, job: Job) -> None:
        job.state = State.CANCELLED
        self.let_go(job)

    def let_go(self, job: Job) -> None:
        line = self.line(job.queue, job.key)
        if job.id in (line.held, line.doom):
            line.held = line.doom = None

    def rival(self, job: Job) -> int | None:
        """The other job that keeps one that has ended from waiting anew."""
        unique = self.rules[job.queue].unique
        if unique is None or unique.period_ms is not None or State.QUEUED not in unique.states:
            return None
        found = self.blocker(job.same)
        return None if found == job.id else found

    def revive(self, job: Job) -> None:
        unique = self.rules[job.queue].unique
        if unique is not None and unique.period_ms is None and State.QUEUED in unique.states and not job.waits:
            self.claims[job.same or ""] = Claim(job.id, None, unique.states)
        front = self.line(job.queue, job.key).held == job.id
        self.let_go(job)
        self.arrive(job, front=front)
        job.cancel = job.tried = False

    def remove(self, job: Job) -> None:
        for claim in self.claims.values():
            if claim.job == job.id:
                claim.gone = job.state
        self.let_go(job)
        del self.jobs[job.id]

    def bury(self, at: tuple[str, str] | None, jobs_max: int) -> list[int]:
        """What a dead job takes along of this line, which are its first; they are dead then, too."""
        assert (at is None) == (not any(line.doom for line in self.lines.values()))
        if at is None:
            return []
        line = self.line(*at)
        assert line.doom is not None
        found = sorted(self.ready(*at), key=lambda job: (self.place(job), job.id))[:jobs_max]
        for job in found:
            job.state = State.DEAD
        if len(found) < jobs_max:
            line.held = line.doom = None
        return [job.id for job in found]
