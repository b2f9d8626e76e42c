"""Whether a handler would be found, without importing anything: importing runs code, and checking must not.

A module may make names in ways that its source does not show, and what is found may still fail on import: a
missing name is therefore advice, only a module that is nowhere is a problem.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

SOURCE_MAX_BYTES = 4 * 1024 * 1024
OWN_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""Where this program is imported from: its own handlers are found even if that is the working directory."""


def source_of(module: str, python_path: Sequence[str]) -> str | None:
    """The file of a module, "" if it has none.

    None: it is nowhere in python_path, site-packages, or what else finds modules here.
    """
    spec, search = None, [*python_path, *import_path()]
    if module.startswith("supervisor."):
        search.append(OWN_ROOT)
    for depth, part in enumerate(module.split(".")):
        # The last part alone: for a dotted name, Python's finders look for the parent among imported modules.
        spec = PathFinder.find_spec(part, search) or (None if depth else _by_other_finders(part))
        if spec is None:
            return None
        search = list(spec.submodule_search_locations or ())
    return (spec.origin if spec else None) or ""


def _by_other_finders(name: str) -> ModuleSpec | None:
    """A top-level module that is built in, or that an installed finder knows (editable installs bring one)."""
    finders = (finder for finder in sys.meta_path if finder is not PathFinder)
    return next((spec for finder in finders if (spec := finder.find_spec(name, None))), None)


def defines(source: str, name: str) -> bool:
    """Whether a module's source binds the first part of "function" or "Class.method"; True where nobody can tell."""
    first = name.split(".", maxsplit=1)[0]
    return not source.endswith(".py") or first in names_in(source, first)


def import_path() -> list[str]:
    """Where modules are found besides python_path: sys.path without the working directory."""
    return [path for path in sys.path if path and os.path.isabs(path) and os.path.abspath(path) != os.getcwd()]


def names_in(source: str, wanted: str) -> set[str]:
    """The names that a module binds at its top level; `wanted` is among them where nobody can tell."""
    try:
        with open(source, "rb") as file:
            tree = ast.parse(file.read(SOURCE_MAX_BYTES))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {wanted}
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return {wanted} if "*" in names or "__getattr__" in names else names
