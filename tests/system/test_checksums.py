"""The shipped configuration at real work: the files of this machine through `checksum`, against sha256sum itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.campaign import size
from tests.support.daemon import ROOT, Daemon

FILES = 400
FOLDERS = ("/usr/lib", "/usr/share")


def regular_files() -> Iterator[str]:
    """Every regular file whose name is text."""
    for folder in FOLDERS:
        for path, _, names in os.walk(folder):
            for name in names:
                full = os.path.join(path, name)
                if os.path.isfile(full) and not os.path.islink(full) and full.isprintable():
                    yield full


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_every_file_has_the_digest_that_sha256sum_gives(tmp_path: Path) -> None:
    wanted = sorted(path for _, path in zip(range(size(FILES, 1 << 30)), regular_files(), strict=False))
    assert len(wanted) >= size(FILES, 10_000)
    lines = "".join(json.dumps({"path": path}) + "\n" for path in wanted)
    with Daemon(tmp_path, (ROOT / "etc" / "queues.toml").read_text()) as daemon:
        loaded = daemon.ctl("enqueue", "checksum", "--jsonl", "-", "--json", stdin=lines, timeout=600).json
        assert (loaded["accepted"], loaded["rejected"]) == (len(wanted), [])
        daemon.wait_for(
            lambda: daemon.ctl("status", "--json").json["queues"]["checksum"]["completed"] == len(wanted),
            timeout=1500,
            what="all checksums",
        )
        listed = daemon.ctl("list", "--queue", "checksum", "--limit", "0", "--json", timeout=600).lines
    expected = subprocess.run(
        ["xargs", "-0", "sha256sum", "--"], input="\0".join(wanted), text=True, capture_output=True, check=True
    ).stdout.splitlines()
    assert sorted(job["result"] for job in listed) == sorted(expected)
