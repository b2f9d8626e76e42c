"""The SQL, one verb a file, read once."""

from __future__ import annotations

from pathlib import Path
from typing import Final


class Statements:
    """Every statement as an attribute named after its file."""

    def __init__(self, folder: Path) -> None:
        for path in sorted(folder.glob("*.sql")):
            setattr(self, path.stem, path.read_text().strip())

    def __getattr__(self, name: str) -> str:
        raise AttributeError(f"no statement {name}.sql")


SQL: Final = Statements(Path(__file__).parent / "sql")
