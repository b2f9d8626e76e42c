"""Looking before acting: how many dead letters a filter means, and of which groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from supervisor.cli.invocation import Invocation

if TYPE_CHECKING:
    from supervisor.store.archive import Archive

PAGE = 500


def preview(invocation: Invocation, limit: int | None, chosen: dict[str, Any]) -> None:
    """Print how many dead letters a filter means, and of which groups: what --dry-run does."""
    from supervisor.cli.progress import counting
    from supervisor.cli.render import Column, put_json, put_rows
    from supervisor.errors import NoDatabase

    if chosen["queue"] is not None:
        invocation.must_exist(chosen["queue"])
    rows: list[dict[str, Any]] = []
    try:
        with invocation.reader() as reader, counting("{} dead letters looked at") as told:
            rows = _by_group(reader, (job["id"] for job in reader.dead(**chosen, told=told)), limit)
    except NoDatabase:
        pass
    if invocation.json:
        put_json({"dry_run": True, "count": sum(row["count"] for row in rows), "groups": rows})
        return
    columns = [
        Column("count", "count", "number"), Column("fingerprint", "fingerprint"), Column("queue", "queue"),
        Column("type", "type"), Column("message", "message", "prose"),
    ]  # fmt: skip
    put_rows(rows, columns, as_json=False)


def _by_group(reader: Archive, ids: Iterable[int], limit: int | None) -> list[dict[str, Any]]:
    """How many of these are of each group; of more than `limit`, the oldest count, as a retry takes them."""
    found = sorted(ids)[:limit]
    counted: Counter[tuple[str | None, str | None]] = Counter()
    for begin in range(0, len(found), PAGE):
        part = found[begin : begin + PAGE]
        known = reader.fingerprints(part)
        counted.update(known.get(job_id, (None, None)) for job_id in part)
    groups_of = {(group["fingerprint"], group["queue"]): group for group in reader.groups()}
    rows = []
    for (mark, queue), count in counted.most_common():
        group = groups_of.get((mark or "", queue or ""), {})
        told = {name: group.get(name) for name in ("type", "message")}
        rows.append({"fingerprint": mark, "queue": queue, "count": count} | told)
    return rows
