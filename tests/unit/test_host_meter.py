"""What the host has left, from psutil or from files where systemd hides the ones that psutil reads."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import psutil
import pytest

from supervisor.unix.host import APART_MS, LOOK_EVERY_MS, PAGE_BYTES, STALE_MS, TICKS_PER_S, Facts, HostMeter

MIB = 1 << 20


class Times(NamedTuple):
    """A psutil.scputimes."""

    user: float
    system: float
    idle: float
    iowait: float
    guest: float


class Library:
    """A psutil whose counters the test sets."""

    def __init__(self) -> None:
        self.times = Times(0.0, 0.0, 0.0, 0.0, 0.0)
        self.available = 4_096 * MIB

    def cpu_times(self) -> Times:
        return self.times

    def virtual_memory(self) -> Any:
        return SimpleNamespace(available=self.available)


class Hidden:
    """What psutil does where /proc shows processes only."""

    def cpu_times(self) -> Any:
        raise FileNotFoundError("/proc/stat")

    def virtual_memory(self) -> Any:
        raise FileNotFoundError("/proc/meminfo")


class Place:
    """A root directory with the files that a meter reads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("proc/self/cgroup", "0::/system.slice/jobsup.service\n")

    def write(self, name: str, text: object) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def group(self, group: str, **files: object) -> None:
        for name, content in files.items():
            self.write(f"sys/fs/cgroup/{group}/{name.replace('_', '.', 1)}", content)

    def process(self, pid: int, *, ticks: int, pages: int) -> None:
        fields = ["0"] * 52
        fields[13] = str(ticks)
        self.write(f"proc/{pid}/stat", f"{pid} (a name) with) spaces) S {' '.join(fields[3:])}")
        self.write(f"proc/{pid}/statm", f"9 {pages} 0")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def looked(meter: HostMeter, pids: list[int], now_ms: int) -> Facts:
    facts = meter.facts(pids, now_ms)
    assert facts is not None
    return facts


def test_it_takes_two_looks_a_moment_apart_and_then_one_a_second(place: Place) -> None:
    library = Library()
    meter = HostMeter(library, str(place.path))
    assert meter.facts([], 10_000) is None
    assert meter.facts([], 10_000 + APART_MS - 1) is None
    library.times = Times(0.5, 0.25, 0.25, 0.5, 0.5)
    first = looked(meter, [], 10_000 + APART_MS)
    assert first.cpu == pytest.approx(0.5)  # guests count as users already, waiting for disks is idle
    library.times = Times(9.0, 9.0, 0.25, 0.5, 0.5)
    assert looked(meter, [], 10_000 + APART_MS + LOOK_EVERY_MS - 1) is first
    assert looked(meter, [], 10_000 + APART_MS + LOOK_EVERY_MS).cpu == 1.0


def test_a_look_of_long_ago_says_nothing(place: Place) -> None:
    meter = HostMeter(Library(), str(place.path))
    meter.facts([], 0)
    assert looked(meter, [], 1_000).memory_bytes == 4_096 * MIB
    assert meter.facts([], 1_000 + STALE_MS) is None
    assert looked(meter, [], 1_000 + STALE_MS + APART_MS).memory_bytes == 4_096 * MIB


def test_workers_are_measured_by_the_cpu_that_they_used_or_stood_in_line_for(place: Place) -> None:
    meter = HostMeter(Library(), str(place.path))
    place.process(71, ticks=0, pages=100)
    place.process(72, ticks=TICKS_PER_S, pages=300)
    meter.facts([71, 72, 73], 0)
    place.process(71, ticks=TICKS_PER_S // 2, pages=200)
    place.write("proc/71/schedstat", "500000000 500000000 7")
    place.process(72, ticks=2 * TICKS_PER_S, pages=200)
    facts = looked(meter, [71, 72, 73], 2_000)
    assert (facts.workers_cpu, facts.largest_bytes, facts.processes) == (1.0, 200 * PAGE_BYTES, 2)


def test_a_limit_of_our_group_or_of_one_around_it_counts(place: Place) -> None:
    library = Library()
    place.group("system.slice/jobsup.service", cpu_max="100000 50000", cpu_stat="usage_usec 0", memory_max="max",
                memory_high=500 * MIB, memory_current=400 * MIB,
                memory_stat=f"inactive_file {50 * MIB}\nanon 1")  # fmt: skip
    place.group("system.slice", cpu_max="max 100000", memory_max=450 * MIB, memory_current=440 * MIB,
                memory_stat="inactive_file 0")  # fmt: skip
    meter = HostMeter(library, str(place.path))
    meter.facts([], 0)
    place.group("system.slice/jobsup.service", cpu_stat="usage_usec 1500000\nuser_usec 1")
    library.times = Times(0.25, 0, 0.75, 0, 0)
    facts = looked(meter, [], 1_000)
    assert facts.cpu == pytest.approx(0.75)  # 1.5 of the 2 CPUs that the quota leaves, a quarter of the host's
    assert facts.memory_bytes == 10 * MIB
    assert facts.source == (
        "cpu: psutil, cpu.max of /system.slice/jobsup.service; "
        "memory: psutil, memory.high of /system.slice/jobsup.service, memory.max of /system.slice"
    )


def test_where_proc_is_hidden_the_root_group_and_the_nodes_tell(place: Place) -> None:
    meminfo = "Node 0 MemFree: 102400 kB\nNode 0 Inactive(file): 1024 kB\nNode 0 Active(file): 2048 kB\nNode 0 Dirty: 1"
    place.write("sys/devices/system/node/node0/meminfo", meminfo)
    place.write("sys/devices/system/node/node1/meminfo", meminfo)
    place.write("sys/devices/system/node/online", "0-1")
    place.group("", cpu_stat="usage_usec 0")
    meter = HostMeter(Hidden(), str(place.path))
    meter.facts([], 0)
    place.group("", cpu_stat=f"usage_usec {(os.cpu_count() or 1) * 600_000}")
    facts = looked(meter, [], 1_000)
    assert facts.cpu == pytest.approx(0.6)
    assert facts.memory_bytes == 2 * 102 * MIB
    assert facts.source == meter.sources() == "cpu: cgroup; memory: nodes"


@pytest.mark.parametrize("nodes", [False, True])
def test_where_nothing_tells_of_the_cpus_that_is_said(place: Place, *, nodes: bool) -> None:
    if nodes:
        place.write("sys/devices/system/node/online", "")
    (place.path / "proc/self/cgroup").unlink()
    meter = HostMeter(None, str(place.path))
    meter.facts([], 0)
    facts = looked(meter, [], 1_000)
    assert (facts.cpu, facts.largest_bytes, facts.source) == (None, None, "cpu: unknown; memory: sysconf")
    assert facts.memory_bytes is not None
    assert 0 < facts.memory_bytes < 1 << 50


def test_a_counter_that_did_not_move_or_went_back_says_nothing_wrong(place: Place) -> None:
    library = Library()
    library.times = Times(5.0, 5.0, 5.0, 0.0, 0.0)
    meter = HostMeter(library, str(place.path))
    meter.facts([], 0)
    assert looked(meter, [], 1_000).cpu is None
    library.times = Times(1.0, 1.0, 15.0, 0.0, 0.0)
    assert looked(meter, [], 2_000).cpu == 0.0


def test_this_host_and_this_process_can_be_measured() -> None:
    meter = HostMeter(psutil)
    meter.facts([os.getpid()], 0)
    deadline = os.times().user + 0.05
    while os.times().user < deadline:
        pass
    facts = looked(meter, [os.getpid()], 1_000)
    assert facts.cpu is not None
    assert 0 < facts.cpu <= 1
    assert facts.workers_cpu >= 0.03
    assert facts.largest_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    assert facts.memory_bytes is not None
    assert facts.source.startswith("cpu: psutil")
