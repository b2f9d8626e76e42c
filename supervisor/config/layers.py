"""The main file, the drop-ins and the command line, laid over each other: later wins, queue by queue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from supervisor.config.lookup import drop_in_folder, drop_ins
from supervisor.config.overrides import Override, parse_override, put
from supervisor.config.parse import Document, parse
from supervisor.config.problem import FILE, Place, Report, dotted, printable
from supervisor.config.source import believe_folder, read

DROP_INS_MAX = 256
TOTAL_MAX_BYTES = 1024 * 1024
COMMAND_LINE = "--set"
LAID = {"queues": "queue", "schedules": "schedule"}
"""Sections that have a table for each name, and what each of those tables is."""


class Layers(NamedTuple):
    """What was written: the main document, and for each queue and schedule the document with the last word on it."""

    main: Document
    queues: dict[str, Document]
    schedules: dict[str, Document]
    files: tuple[str, ...]


class Budget:
    """How many more bytes of configuration are read."""

    def __init__(self) -> None:
        self.left_bytes = TOTAL_MAX_BYTES

    def document(self, path: str, report: Report) -> Document | None:
        content = read(path, report)
        if content is None:
            return None
        self.left_bytes -= len(content)
        if self.left_bytes < 0:
            report.problem(Place(path), FILE, "is one file too many: all files together may have 1 MiB")
            return None
        return parse(path, content, report)


def gather(
    main: str, settings: Sequence[str], report: Report, candidate: Document | None = None, budget: Budget | None = None
) -> Layers | None:
    """All layers of a main file; `candidate` is one more drop-in, before it is written. None: no main document.

    `budget`: what else is read together with it, such as the files of scopes.
    """
    budget = budget or Budget()
    document = budget.document(main, report)
    if document and not document.data:
        report.problem(Place(main), FILE, "is empty; write at least one [queues.NAME], or [daemon]")
    extra = [found for path in _drop_ins(main, report) if (found := budget.document(path, report))]
    extra += [candidate] if candidate else []
    if not document:
        return None
    layers = Layers(document, {}, {}, (main, *(each.path for each in extra)))
    for each in (document, *extra):
        _lay(each, layers, report)
    for number, written in enumerate(settings, 1):
        _set(written, Place(COMMAND_LINE, number), layers, report)
    return layers


def _drop_ins(main: str, report: Report) -> list[str]:
    folder = drop_in_folder(main)
    try:
        found = drop_ins(main)
        if found:
            believe_folder(folder, report, of=main)
    except OSError as error:
        report.problem(Place(main), FILE, f"{printable(folder)} cannot be read: {error.strerror}")
        return []
    if len(found) > DROP_INS_MAX:
        report.problem(Place(main), FILE, f"has {len(found)} drop-ins; at most {DROP_INS_MAX} are read")
    return found[:DROP_INS_MAX]


def _lay(document: Document, layers: Layers, report: Report) -> None:
    """Let this document have the last word on its queues."""
    if document is not layers.main:
        for name in [name for name in document.data if name not in LAID]:
            text = (
                "stands in a drop-in, which holds [queues.NAME] and [schedules.NAME] only; move it into the main file"
            )
            report.problem(document.place((name,)), (name,), text)
    for section, noun in LAID.items():
        known: dict[str, Document] = getattr(layers, section)
        for name in _names(document, section, noun, report):
            if before := known.get(name):
                key = (section, name)
                text = f"replaces the {noun} at {before.place(key)} as a whole; delete one of them"
                report.warn(document.place(key), key, text)
            known[name] = document


def _names(document: Document, section: str, noun: str, report: Report) -> Iterable[str]:
    tables = document.data.get(section, {})
    if isinstance(tables, dict):
        return tables
    key = (section,)
    report.problem(document.place(key), key, f"is no table; write one [{section}.NAME] for each {noun}")
    return ()


def _set(written: str, place: Place, layers: Layers, report: Report) -> None:
    """Put one setting of the command line into the document that has the last word on its key."""
    try:
        override = parse_override(written)
        document = _document_of(override, layers)
        put(document.data, override)
    except ValueError as error:
        report.problem(place, FILE, str(error))
        return
    for known in [known for known in document.places if known[: len(override.key)] == override.key]:
        del document.places[known]  # what stood there is no more
    document.places[override.key] = place
    if override.key[0] in LAID:
        getattr(layers, override.key[0]).setdefault(override.key[1], document)


def _document_of(override: Override, layers: Layers) -> Document:
    section = override.key[0]
    if section not in LAID:
        return layers.main
    if len(override.key) < 3:
        raise ValueError(f"{dotted(override.key)} is no key of a {LAID[section]}; write {section}.NAME.KEY=value")
    named: dict[str, Document] = getattr(layers, section)
    return named.get(override.key[1], layers.main)


def queue_table(layers: Layers, name: str) -> Any:
    """What was written for this queue: a table, if it is right."""
    return layers.queues[name].data["queues"][name]
