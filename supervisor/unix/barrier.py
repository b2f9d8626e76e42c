"""membarrier(2): every process that registered passes a full memory barrier before the call returns.

The keeper and a worker share two words without a lock: the worker writes its claim and then reads the limit, the
keeper writes the limit and then reads the claim. Processors may let a read overtake a write; this call makes sure
that at least one of the two sees the other, and only the rare side, the keeper's, pays for it.
"""

from __future__ import annotations

import ctypes
import platform

_NUMBERS = {"x86_64": 324, "aarch64": 283, "riscv64": 283}
_GLOBAL_EXPEDITED, _REGISTER = 2, 4
_syscall = ctypes.CDLL(None, use_errno=True).syscall


def _membarrier(command: int) -> int:
    number = _NUMBERS.get(platform.machine())
    return -1 if number is None else int(_syscall(number, command, 0, 0))


def register() -> bool:
    """Take part in the barriers of others; False where the kernel has none. Not inherited: each worker calls it."""
    return _membarrier(_REGISTER) == 0


def membarrier() -> bool:
    """Issue the barrier to all who registered; False where it cannot be had."""
    return _membarrier(_GLOBAL_EXPEDITED) == 0
