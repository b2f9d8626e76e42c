"""The keys of retention by count and of statistics: what they mean, and what is said to what they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.config.diff import diff
from supervisor.config.load import load
from supervisor.config.spec import DAY_MS, HOUR_MS, Spec
from supervisor.errors import ConfigError


def spec_of(tmp_path: Path, text: str) -> Spec:
    file = tmp_path / "queues.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load(file, environ={})


QUEUE = '[queues.q]\ncommand = ["true"]\n'


def test_any_number_is_kept_unless_there_is_a_limit(tmp_path: Path) -> None:
    kept = spec_of(tmp_path, QUEUE).queues["q"].retention
    assert (kept.completed_max, kept.cancelled_max, kept.dead_max) == (None, None, None)
    text = "[defaults]\nretention = { completed_max = 10, dead_max = 5 }\n" + QUEUE
    own = 'retention = { completed_max = "any", cancelled_max = 0 }\n'
    kept = spec_of(tmp_path, text + own).queues["q"].retention
    assert (kept.completed_max, kept.cancelled_max, kept.dead_max) == (None, 0, 5)


def test_statistics_are_kept_for_three_weeks_as_said_or_for_ever(tmp_path: Path) -> None:
    assert spec_of(tmp_path, QUEUE).stats.keep_ms == 21 * DAY_MS
    assert spec_of(tmp_path, f'[stats]\nkeep = "1h"\n{QUEUE}').stats.keep_ms == HOUR_MS
    assert spec_of(tmp_path, f'[stats]\nkeep = "never"\n{QUEUE}').stats.keep_ms is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{QUEUE}retention = {{ completed_max = -1 }}\n",
            'queues.toml:3: queues.q.retention.completed_max: -1 is out of range; write "any" or an integer',
        ),
        (
            f'{QUEUE}retention = {{ dead_max = "ten" }}\n',
            'queues.toml:3: queues.q.retention.dead_max: "ten" is text; write "any" or an integer',
        ),
        (
            f"{QUEUE}retention = {{ dead_max = true }}\n",
            "queues.toml:3: queues.q.retention.dead_max: true is a boolean",
        ),
        (
            f"{QUEUE}retention = {{ max = 3 }}\n",
            "queues.toml:3: queues.q.retention.max: unknown key",
        ),
        (f'[stats]\nkeep = "1m"\n{QUEUE}', 'queues.toml:2: stats.keep: "1m" is out of range; write "never" or a'),
        (f"[stats]\nkeep = 21\n{QUEUE}", "queues.toml:2: stats.keep: 21 has no unit"),
        (f'[stats]\nfor = "1d"\n{QUEUE}', "queues.toml:2: stats.for: unknown key"),
    ],
)
def test_what_they_cannot_be_is_said_with_what_would_be_right(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        spec_of(tmp_path, text)
    (problem,) = refused.value.problems
    assert expected in problem


def test_another_limit_touches_no_worker(tmp_path: Path) -> None:
    before = spec_of(tmp_path, QUEUE)
    after = spec_of(tmp_path, f'[stats]\nkeep = "1d"\n{QUEUE}retention = {{ completed_max = 10 }}\n')
    changes = diff(before, after)
    assert (changes.retuned, changes.changed, changes.restart_needed) == (("q",), (), ())
