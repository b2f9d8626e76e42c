"""Power loss, replayed: what a keeper wrote and synced is recorded, and every moment of it can be the last.

A recording is made by a preloaded library (writes.c, compiled when it is needed). At a crash point, all that was
synced is on disk; what was written since is lost wholly, kept up to some moment, or kept in parts, sector by sector.
"""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

WRITE, TRUNCATE, SYNC, REMOVE, CREATE, SYNC_FOLDER = 1, 2, 3, 4, 5, 6
DATABASE, WAL, JOURNAL = 1, 2, 3
SUFFIXES = {DATABASE: "", WAL: "-wal", JOURNAL: "-journal"}
SECTOR = 512
HEAD = struct.Struct("<6Q")


class Note(NamedTuple):
    """Something that was done to a file; `data` is what was written. Times are nanoseconds on the boot clock."""

    begun_ns: int
    ended_ns: int
    kind: int
    file: int
    offset: int
    data: bytes


def recorder(folder: Path) -> Path | None:
    """The library to preload; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    library = folder / "writes.so"
    source = Path(__file__).with_name("writes.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return library


def environment(library: Path, database: Path, recording: Path) -> dict[str, str]:
    """What makes a process record."""
    return {"LD_PRELOAD": str(library), "RECORD_WRITES_OF": str(database), "RECORD_WRITES_TO": str(recording)}


def notes(recording: Path) -> Iterator[Note]:
    """A recording, note by note."""
    return Tail(recording).more()


class Tail:
    """A recording that may still grow: each note is given out once, when all of it is there."""

    def __init__(self, recording: Path) -> None:
        self._recording = recording
        self._offset = 0

    def more(self) -> Iterator[Note]:
        """The notes since the last time."""
        if not self._recording.exists():
            return
        with self._recording.open("rb", buffering=1 << 20) as file:
            file.seek(self._offset)
            while len(head := file.read(HEAD.size)) == HEAD.size:
                begun_ns, ended_ns, kind, which, offset, length = HEAD.unpack(head)
                data = file.read(length) if kind == WRITE else b""
                if kind == WRITE and len(data) < length:
                    return
                self._offset = file.tell()
                yield Note(begun_ns, ended_ns, kind, which, offset, data)


class Disk:
    """What is surely on the disk, and what was written since the last sync of each file, in its order."""

    def __init__(self) -> None:
        self.safe: dict[int, bytearray] = {}
        self.unsafe: list[Note] = []

    def take(self, note: Note) -> None:
        """Go one step on."""
        if note.kind == SYNC:
            # A new file's name goes to disk with it, and so does the removal of what had that name before.
            self._settle(lambda other: other.file == note.file)
        elif note.kind == SYNC_FOLDER:
            self._settle(lambda other: other.kind in (CREATE, REMOVE))
        else:
            self.unsafe.append(note)

    def _settle(self, chosen: Callable[[Note], bool]) -> None:
        kept = []
        for note in self.unsafe:
            if chosen(note):
                apply(self.safe, note, note.data)
            else:
                kept.append(note)
        self.unsafe = kept


def apply(files: dict[int, bytearray], note: Note, data: bytes) -> None:
    """Do to files what a note says, with this much of its data."""
    if note.kind == REMOVE:
        files.pop(note.file, None)
        return
    if note.kind == CREATE:
        files[note.file] = bytearray()
    content = files.setdefault(note.file, bytearray())
    if note.kind == TRUNCATE:
        del content[note.offset :]
        content.extend(bytes(note.offset - len(content)))
    elif note.kind == WRITE:
        content.extend(bytes(max(0, note.offset - len(content))))
        content[note.offset : note.offset + len(data)] = data


Loss = Callable[[Disk, random.Random], dict[int, bytearray]]


def wholly(disk: Disk, _chance: random.Random) -> dict[int, bytearray]:
    """Nothing that was not synced is there."""
    return {file: bytearray(content) for file, content in disk.safe.items()}


def up_to_a_moment(disk: Disk, chance: random.Random) -> dict[int, bytearray]:
    """What was written before some moment is there, the last write of it perhaps in part."""
    files = wholly(disk, chance)
    kept = chance.randint(0, len(disk.unsafe))
    for number, note in enumerate(disk.unsafe[:kept]):
        last = number == kept - 1
        apply(files, note, note.data[: chance.randint(0, len(note.data))] if last else note.data)
    return files


def in_parts(disk: Disk, chance: random.Random) -> dict[int, bytearray]:
    """Of what was not synced each sector is there or not."""
    files = wholly(disk, chance)
    for note in disk.unsafe:
        if note.kind != WRITE:
            if chance.random() < 0.5:
                apply(files, note, b"")
            continue
        for first in range(0, len(note.data), SECTOR):
            if chance.random() < 0.5:
                apply(files, note._replace(offset=note.offset + first), note.data[first : first + SECTOR])
    return files


LOSSES: dict[str, Loss] = {"wholly": wholly, "up to a moment": up_to_a_moment, "in parts": in_parts}


def write_image(files: dict[int, bytearray], database: Path) -> None:
    """Lay the files down as a machine would find them when it is switched on again."""
    for file, suffix in SUFFIXES.items():
        path = database.with_name(database.name + suffix)
        if file in files:
            path.write_bytes(files[file])
        else:
            path.unlink(missing_ok=True)
    database.with_name(database.name + "-shm").unlink(missing_ok=True)
