"""Where a daemon listens below its run_dir: one socket for the main file, one for each scope. Pure."""

from __future__ import annotations

SOCKET_NAME = "jobsup.sock"
SCOPES_FOLDER = "scopes"
SCOPE_OF = "scope_of"
"""The key of [daemon] by which the file of a scope names its main file."""


def socket_in(run_dir: str, scope: str = "") -> str:
    """The socket of a scope; without a name, the main one."""
    return f"{run_dir}/{SCOPES_FOLDER}/{scope}.sock" if scope else f"{run_dir}/{SOCKET_NAME}"
