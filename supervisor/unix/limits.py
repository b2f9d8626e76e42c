"""How many files a process may have open: many for who holds every slot, as given for who runs user code."""

from __future__ import annotations

import resource

FILES_WANTED = 16_384


def raise_file_limit() -> int:
    """Let this process have as many descriptors as it may, within reason; returns what its limit was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return soft


def set_file_limit(soft: int) -> None:
    """Go back to a limit that `raise_file_limit` returned: select(2) in old code fails beyond 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
