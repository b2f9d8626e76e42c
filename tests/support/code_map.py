"""The code map of docs/architecture.md, made of every module's first sentence: `python -m tests.support.code_map`.

It rewrites what stands between the two marks; the rest of the page is written by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- code map -->\n", "<!-- end of the code map -->\n"
PACKAGES = (
    "supervisor", "supervisor/policy", "supervisor/flow", "supervisor/config", "supervisor/tree", "supervisor/observe",
    "supervisor/store", "supervisor/store/sqlite", "supervisor/wire", "supervisor/unix", "supervisor/master",
    "supervisor/keeper", "supervisor/pool", "supervisor/worker", "supervisor/worker/executors",
    "supervisor/alerter", "supervisor/relay", "supervisor/handlers", "supervisor/cli", "supervisor/cli/commands",
    "supervisor/cli/checkup", "supervisor/testing",
)  # fmt: skip
"""In the order in which they are best read: what decides, what stores and transports, the processes, the programs."""


def packages() -> set[str]:
    """Every package there is."""
    return {str(path.parent.relative_to(ROOT)) for path in (ROOT / "supervisor").rglob("__init__.py")}


def modules(package: str) -> Iterator[Path]:
    """The modules of a package, by name."""
    for path in sorted((ROOT / package).glob("*.py")):
        if path.name != "__init__.py":
            yield path


def sentence(path: Path) -> str:
    """The first sentence of a module's docstring, as far as its first line break that ends one."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = re.split(r"(?<=[.:])\s*\n", text, maxsplit=1)[0]
    return " ".join(first.split()).rstrip(":").replace("|", "\\|")


def code_map() -> str:
    """The part between the marks."""
    lines = [
        "Made by `python -m tests.support.code_map` from what each module says of itself; a test compares the two."
    ]
    for package in PACKAGES:
        lines += ["", f"### {package}/", "", sentence(ROOT / package / "__init__.py"), "", "| module | |", "|---|---|"]
        lines += [f"| `{path.name}` | {sentence(path)} |" for path in modules(package)]
        if (ROOT / package / "sql").is_dir():
            lines.append("| `sql/` | The statements, one verb a file. |")
    return "\n".join(lines) + "\n"


def rewritten(page: str) -> str:
    """The page with the code map of now."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + code_map() + END + after


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
