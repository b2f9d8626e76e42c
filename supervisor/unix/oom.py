"""Evidence that the kernel killed a process for want of memory: the counter of our control group."""

from __future__ import annotations

CGROUP_ROOT = "/sys/fs/cgroup"


def oom_kills() -> int | None:
    """How many processes of our control group the kernel has killed for memory; None where it does not say."""
    for path in _counters():
        try:
            with open(path, encoding="ascii") as file:
                fields = dict(line.split(maxsplit=1) for line in file if " " in line)
            return int(fields["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
    return None


def _counters() -> list[str]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return []
    unified = [f"{CGROUP_ROOT}{path}/memory.events" for _, controllers, path in lines if not controllers]
    legacy = [
        f"{CGROUP_ROOT}/memory{path}/memory.oom_control"
        for _, controllers, path in lines
        if "memory" in controllers.split(",")
    ]
    return unified + legacy
