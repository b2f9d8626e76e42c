"""What the host has left for more workers: CPU and memory, from psutil, or from control groups and the kernel's nodes.

systemd's `ProcSubset=pid` hides /proc/stat and /proc/meminfo. Then the root control group (cgroup v2) tells the use
of all CPUs and the memory nodes below /sys what is free; what is in no group's or node's file is not known. The limits
of our own control groups (`cpu.max`, `memory.max`, `memory.high`) count as well, wherever the rest comes from.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

LOOK_EVERY_MS = 1_000
"""How often the host is looked at while somebody asks."""
APART_MS = 150
"""The least time between two looks from which the use of the CPUs is told."""
STALE_MS = 5_000
"""A look that is older says nothing about now."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
IDLE = ("idle", "iowait")
COUNTED_TWICE = ("guest", "guest_nice")
"""Times that are in `user` and `nice` already."""


class Facts(NamedTuple):
    """What two looks tell; None for what is not known.

    `cpu` is the part in use of all CPUs, or of those that a limit leaves us; `memory_bytes` what can still be had.
    `workers_cpu` is how many CPUs the processes asked about wanted together: used, or stood in line for.
    `largest_bytes` is the greatest resident memory among them, `processes` how many there were. `source` says where
    it all comes from, for people.
    """

    cpu: float | None
    memory_bytes: int | None
    workers_cpu: float
    largest_bytes: int | None
    processes: int
    source: str


class _Look(NamedTuple):
    """Counters by source: (used, there was), in seconds of CPU; memory by source; CPU seconds by process."""

    at_ms: int
    cpu: Mapping[str, tuple[float, float]]
    memory: Mapping[str, int]
    used: Mapping[int, float]
    largest_bytes: int | None


class HostMeter:
    """Looks at the host at most once a second, and only when asked. `root` is put before every path.

    `library` is psutil, or None to do without.
    """

    def __init__(self, library: Any, root: str = "") -> None:
        self._psutil = library
        self._root = root
        self._last: _Look | None = None
        self._facts: Facts | None = None

    def facts(self, pids: Sequence[int], now_ms: int) -> Facts | None:
        """What is so now; None if the first look is too recent to say. Ask again after `APART_MS`."""
        last, known = self._last, self._facts
        age_ms = now_ms - last.at_ms if last else STALE_MS
        if age_ms < (LOOK_EVERY_MS if known else APART_MS):
            return known
        look = self._look(pids, now_ms)
        self._last = look
        self._facts = None if last is None or age_ms >= STALE_MS else _compared(last, look)
        return self._facts

    def sources(self) -> str:
        """Where facts come from, as far as one look tells."""
        return _sources(self._cpu(0), self._memory())

    def _look(self, pids: Sequence[int], now_ms: int) -> _Look:
        used: dict[int, float] = {}
        resident = []
        for pid in pids:
            try:
                used[pid] = self._cpu_of(pid)
                resident.append(int(self._read(f"/proc/{pid}/statm").split()[1]) * PAGE_BYTES)
            except (OSError, ValueError, IndexError):
                continue  # it has just ended
        return _Look(now_ms, self._cpu(now_ms), self._memory(), used, max(resident, default=None))

    # -- the CPUs ----------------------------------------------------------------------------------------------

    def _cpu_of(self, pid: int) -> float:
        """CPU seconds that a process, and those of its children that it has waited for, used or stood in line for.

        On a full host a process that computes gets little, and would look like one that waits for something else.
        """
        fields = self._read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        used_s = sum(map(int, fields[11:15])) / TICKS_PER_S
        try:
            return used_s + int(self._read(f"/proc/{pid}/schedstat").split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return used_s  # a kernel that keeps no such account

    def _cpu(self, now_ms: int) -> dict[str, tuple[float, float]]:
        found = {}
        for name, counter in (("psutil", self._cpu_by_psutil), ("cgroup", self._cpu_by_root)):
            try:
                found[name] = counter(now_ms)
                break
            except (OSError, ValueError, KeyError, AttributeError):
                continue
        for group in self._groups():
            try:
                quota, period = self._read(f"{group}/cpu.max").split()
                cpus = int(quota) / int(period)
                found[f"cpu.max of {self._name(group)}"] = (self._usage_s(group), now_ms / 1000 * cpus)
            except (OSError, ValueError, KeyError):
                continue  # no limit, or none of this kind
        return found

    def _cpu_by_psutil(self, _now_ms: int) -> tuple[float, float]:
        times = self._psutil.cpu_times()._asdict()
        there_was = sum(value for name, value in times.items() if name not in COUNTED_TWICE)
        return there_was - sum(times.get(name, 0.0) for name in IDLE), there_was

    def _cpu_by_root(self, now_ms: int) -> tuple[float, float]:
        return self._usage_s(f"{self._root}{GROUPS}"), now_ms / 1000 * (os.cpu_count() or 1)

    def _usage_s(self, group: str) -> float:
        return _fields(self._read(f"{group}/cpu.stat"))["usage_usec"] / 1_000_000

    # -- memory ------------------------------------------------------------------------------------------------

    def _memory(self) -> dict[str, int]:
        found = {}
        for name, counter in (
            ("psutil", self._memory_by_psutil),
            ("nodes", self._memory_by_nodes),
            ("sysconf", _memory_by_sysconf),
        ):
            try:
                found[name] = counter()
                break
            except (OSError, ValueError, KeyError, AttributeError):
                continue
        for group in self._groups():
            for limit in ("memory.max", "memory.high"):
                try:
                    found[f"{limit} of {self._name(group)}"] = self._left_of(group, limit)
                except (OSError, ValueError, KeyError):
                    continue  # "max": no limit
        return found

    def _memory_by_psutil(self) -> int:
        return int(self._psutil.virtual_memory().available)

    def _memory_by_nodes(self) -> int:
        """Free pages, and those of files, which the kernel takes back; a little less than it could give."""
        folder = f"{self._root}/sys/devices/system/node"
        nodes = [name for name in os.listdir(folder) if name.removeprefix("node").isdigit()]
        if not nodes:
            raise ValueError("no memory node")
        return sum(self._left_of_node(f"{folder}/{name}/meminfo") for name in nodes)

    def _left_of_node(self, path: str) -> int:
        lines = (line.split() for line in self._read(path).splitlines())
        kib = {words[2].rstrip(":"): int(words[3]) for words in lines if len(words) > 3}
        return (kib["MemFree"] + kib["Inactive(file)"] + kib["Active(file)"] // 2) * 1024

    def _left_of(self, group: str, limit: str) -> int:
        most = int(self._read(f"{group}/{limit}"))
        taken = int(self._read(f"{group}/memory.current"))
        return max(0, most - taken + _fields(self._read(f"{group}/memory.stat"))["inactive_file"])

    # -- files -------------------------------------------------------------------------------------------------

    def _groups(self) -> Iterator[str]:
        """The folders of our control group (v2) and of those around it, without the root, which has no limits."""
        try:
            lines = self._read("/proc/self/cgroup").splitlines()
        except OSError:
            return
        path = next((line[3:] for line in lines if line.startswith("0::/")), "/")
        while path.strip("/"):
            yield f"{self._root}{GROUPS}{path}"
            path = path.rpartition("/")[0]

    def _name(self, group: str) -> str:
        return group.removeprefix(f"{self._root}{GROUPS}")

    def _read(self, path: str) -> str:
        inside = path if self._root and path.startswith(self._root) else f"{self._root}{path}"
        with open(inside, encoding="utf-8", errors="replace") as file:
            return file.read()


GROUPS = "/sys/fs/cgroup"


def _memory_by_sysconf() -> int:
    """Free pages alone: files in memory are not counted, so this is the least that can be had."""
    return os.sysconf("SC_AVPHYS_PAGES") * PAGE_BYTES


def _fields(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {name: int(value) for name, value in (pair for pair in pairs if len(pair) == 2)}


def _compared(before: _Look, after: _Look) -> Facts:
    parts = []
    for name, (used, there_was) in after.cpu.items():
        used_before, was_before = before.cpu.get(name, (used, there_was))
        if there_was > was_before:
            parts.append(min(max((used - used_before) / (there_was - was_before), 0.0), 1.0))
    seconds = max(after.at_ms - before.at_ms, 1) / 1000
    grown = (max(used - before.used.get(pid, 0.0), 0.0) for pid, used in after.used.items())
    return Facts(
        max(parts, default=None),
        min(after.memory.values(), default=None),
        sum(grown) / seconds,
        after.largest_bytes,
        len(after.used),
        _sources(after.cpu, after.memory),
    )


def _sources(cpu: Mapping[str, object], memory: Mapping[str, object]) -> str:
    return f"cpu: {', '.join(cpu) or 'unknown'}; memory: {', '.join(memory) or 'unknown'}"
