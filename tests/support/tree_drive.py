"""Drives a tree in fake time against fake processes that obey at once, or not, as the test says."""

from __future__ import annotations

from supervisor.tree.commands import Abandon, Command, Kill, Start, Stop
from supervisor.tree.deadlines import next_deadline_ms
from supervisor.tree.events import Event, Exited, NotStarted, Ready, Tick
from supervisor.tree.model import ChildSpec, Delays, Ending, GroupSpec, Strategy, Tree, plant
from supervisor.tree.react import react

NO_JITTER = Delays(100, 2.0, 30_000, 0.0)
PROBES = Delays(5_000, 2.0, 60_000, 0.0)


def a_group(names: str = "abc", *, tiers: bool = True, strategy: str = "one_for_one", **fields: object) -> GroupSpec:
    """A group with a child for each letter; `child` fields go to every child."""
    child_fields = fields.pop("child", {})
    assert isinstance(child_fields, dict)
    children = tuple(ChildSpec(name, tier=at if tiers else 0, **child_fields) for at, name in enumerate(names))
    settings = {"restart_delays": NO_JITTER, "probe_delays": PROBES} | fields
    return GroupSpec(str(settings.pop("id", "g")), children, Strategy(strategy), **settings)  # type: ignore[arg-type]


class Drive:
    """One tree and its world: `said` is every command so far, `obedient` whether processes do as they are told."""

    def __init__(self, *groups: GroupSpec, obedient: bool = True) -> None:
        self.tree: Tree = plant(groups)
        self.now_ms = 1_000_000
        self.obedient = obedient
        self.said: list[Command] = []

    def send(self, event: Event) -> list[Command]:
        """Tell the tree; returns everything that it ordered, with what the obedient world's answers led to."""
        mark = len(self.said)
        self._react(event)
        return self.said[mark:]

    def _react(self, event: Event) -> None:
        self.tree, commands = react(self.tree, event, self.now_ms)
        self.said.extend(commands)
        for command in commands if self.obedient else ():
            self._obey(command)

    def _obey(self, command: Command) -> None:
        if isinstance(command, Start):
            self._react(Ready(command.child, command.run))
        if isinstance(command, Stop | Kill):
            self._react(Exited(command.child, command.run, Ending.ORDERED))

    def tick(self) -> list[Command]:
        """Let the tree look at the clock."""
        return self.send(Tick())

    def sleep(self, ms: int) -> list[Command]:
        """Let time pass, waking the tree whenever it asked to be woken."""
        mark = len(self.said)
        until = self.now_ms + ms
        while (wake := next_deadline_ms(self.tree, self.now_ms)) is not None and wake <= until:
            self.now_ms = wake
            self.tick()
        self.now_ms = until
        self.tick()
        return self.said[mark:]

    def run(self, child: str) -> int:
        """Which start of the child this is."""
        return self[child].run

    def __getitem__(self, name: str):
        child = self.tree.child(name)
        assert child is not None, name
        return child

    def ready(self, child: str) -> list[Command]:
        return self.send(Ready(child, self.run(child)))

    def dies(self, child: str, ending: Ending = Ending.FAILED, **facts: object) -> list[Command]:
        """The child's process ends."""
        return self.send(Exited(child, self.run(child), ending, **facts))  # type: ignore[arg-type]

    def not_started(self, child: str) -> list[Command]:
        return self.send(NotStarted(child, self.run(child), "no room"))


def started(commands: list[Command]) -> str:
    """Which children were started, in order."""
    return "".join(command.child for command in commands if isinstance(command, Start))


def stopped(commands: list[Command]) -> str:
    """Which children were asked to stop, in order."""
    return "".join(command.child for command in commands if isinstance(command, Stop))


def killed(commands: list[Command]) -> str:
    """Which children were killed, in order."""
    return "".join(command.child for command in commands if isinstance(command, Kill))


def abandoned(commands: list[Command]) -> str:
    """Which children were given up, in order."""
    return "".join(command.child for command in commands if isinstance(command, Abandon))
