"""Write what is made of the key tables: `python -m supervisor.config.generate [FOLDER]`, FOLDER being the repository.

A test compares the files with what would be written.
"""

from __future__ import annotations

import sys
from pathlib import Path

from supervisor.config import reference, schema

FILES = {"docs/config.md": reference.markdown, "etc/queues.schema.json": schema.text}


def main(folder: Path) -> None:
    """Write all generated files below the folder."""
    for name, make in FILES.items():
        (folder / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
