"""A Daemon whose tests talk to one scope of it, while another scope with the same queues is never quiet.

What the tests see is looked at: nothing of the other scope, whose payloads, results and errors say NOISE, may be in it.
"""

from __future__ import annotations

import re
import threading
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from supervisor.client import Client
from supervisor.errors import JobsupError
from tests.support.daemon import Daemon, Ran

SCOPE, OTHER = "shop", "noisy"
NOISE = "NOISE"
KEY = "the-same"
HANDLER = f"""
def run(job):
    if job.payload["fails"]:
        raise ValueError("{NOISE}")
    return "{NOISE}"
"""


class ScopedDaemon(Daemon):
    """`config` is the file of the scope `shop`; `main` has its [daemon] section, and the scopes."""

    def __init__(self, path: Path, toml: str, *, app: Mapping[str, str] | None = None) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._make_noise)
        self._seen: set[int] = set()
        self.noise: set[int] = set()
        super().__init__(path, toml, app={**(app or {}), "noise.py": HANDLER})

    @property
    def main(self) -> Path:
        return self.path / "etc" / "queues.toml"

    @property
    def other(self) -> Path:
        """The file of the other scope."""
        return self.path / "etc" / OTHER / "queues.toml"

    @property
    def socket(self) -> Path:
        return self.run_dir / "scopes" / f"{SCOPE}.sock"

    def configure(self, toml: str) -> None:
        """Write the three files anew: `toml` is what the scope would be as a main file."""
        self.config = self.path / "etc" / SCOPE / "queues.toml"
        daemon, rest = _divided(toml)
        scopes = "".join(f'[scopes.{name}]\nconfig = "{name}/queues.toml"\n' for name in (SCOPE, OTHER))
        of = '[daemon]\nscope_of = "../queues.toml"\n'
        queues = tomllib.loads(toml).get("queues", {})
        twins = "".join(f'[queues."{name}"]\nhandler = "noise:run"\nworkers = 1\nmax_attempts = 1\n' for name in queues)
        for file, text in ((self.main, daemon + scopes), (self.config, of + rest), (self.other, of + twins)):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        self._queues = list(queues)

    def start(self, *, ready: bool = True, env: Mapping[str, str] | None = None) -> None:
        super().start(ready=ready, env=env)
        if not self._thread.is_alive():
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        super().__exit__(kind, error, trace)
        if error is None:
            assert self.noise, "the other scope was quiet"
            assert not self._seen & self.noise

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def ctl(self, *args: object, **how: Any) -> Ran:
        ran = super().ctl(*args, **how)
        self.look_at(ran.out + ran.err)
        return ran

    def look_at(self, text: str) -> None:
        """Whether something that a test has seen is of the other scope."""
        assert NOISE not in text, text
        assert f"{OTHER}/" not in text.replace(f"{OTHER}/queues.toml", ""), text
        self._seen |= {int(found) for found in re.findall(r'"(?:id|job_id)": (\d+)', text)}

    def _make_noise(self) -> None:
        """Jobs under the same names and request keys as the tests', one after another, until the end."""
        with Client(self.other, timeout=20) as client:
            while not self._stop.is_set():
                for number, queue in enumerate(self._queues):
                    job = {"payload": {NOISE: NOISE, "fails": number % 2 == 1}, "key": "k", "tags": ["t"]}
                    try:
                        if len(self.noise) < len(self._queues):
                            self.noise.update(client.insert(queue, [job], request_key=f"{KEY}-{number}")["ids"])
                        made = client.insert(queue, [job])["ids"]
                        self.noise.update(made)
                        client.wait(made[0], timeout=20)
                    except JobsupError:
                        self._stop.wait(0.05)  # it is being stopped, or its keeper is killed: that is the tests' affair


def _divided(toml: str) -> tuple[str, str]:
    """The [daemon] section with its paths, and the rest."""
    match = re.search(r"^\[daemon\]\n(?:(?!\[).*\n)*", toml, re.MULTILINE)
    return (match[0], toml.replace(match[0], "", 1)) if match else ("", toml)
