"""Bad configuration files, by the names they have in docs/config.md: each a clear error, in bounded time."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.config import reference
from tests.support.config_files import QUEUE, problems, write

LINE = re.compile(r".+:[1-9][0-9]*: .+: .+")


def missing(folder: Path) -> Path:
    return folder / "queues.toml"


def unreadable(folder: Path) -> Path:
    path = write(folder, QUEUE)
    path.chmod(0)
    return path


def empty(folder: Path) -> Path:
    return write(folder, "")


def comments_only(folder: Path) -> Path:
    return write(folder, "# nothing\n\n")


def a_directory(folder: Path) -> Path:
    (folder / "queues.toml").mkdir(mode=0o755)
    return folder / "queues.toml"


def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "queues.toml", 0o644)
    return folder / "queues.toml"


def a_device(folder: Path) -> Path:
    return Path("/dev/zero")


def ten_megabytes(folder: Path) -> Path:
    return write(folder, QUEUE + "#" * 10_000_000)


def not_utf8(folder: Path) -> Path:
    return write(folder, QUEUE.encode() + b'user = "\xff"\n')


def a_byte_order_mark(folder: Path) -> Path:
    return write(folder, "\ufeff" + QUEUE)


def world_writable(folder: Path) -> Path:
    path = write(folder, QUEUE)
    path.chmod(0o666)
    return path


def in_a_world_writable_directory(folder: Path) -> Path:
    path = write(folder, QUEUE, "shared/queues.toml")
    path.parent.chmod(0o777)
    return path


def a_link_into_a_world_writable_directory(folder: Path) -> Path:
    real = in_a_world_writable_directory(folder)
    (folder / "queues.toml").symlink_to(real)
    return folder / "queues.toml"


def a_link_to_itself(folder: Path) -> Path:
    (folder / "queues.toml").symlink_to("queues.toml")
    return folder / "queues.toml"


def duplicate_keys(folder: Path) -> Path:
    return write(folder, QUEUE + "workers = 1\n\n[defaults]\nworkers = 2\nworkers = 3\n")


def two_queues_with_one_name(folder: Path) -> Path:
    return write(folder, QUEUE + "[queues.r]\n" + QUEUE)


def booleans_for_numbers(folder: Path) -> Path:
    return write(folder, QUEUE + "workers = true\nmax_attempts = false\n")


def inf_and_nan(folder: Path) -> Path:
    return write(folder, QUEUE + "backoff = { factor = inf, jitter = nan }\n")


def huge_numbers(folder: Path) -> Path:
    return write(folder, QUEUE + "workers = 0x" + "f" * 100_000)


def a_number_of_200_000_digits(folder: Path) -> Path:
    return write(folder, QUEUE + "workers = " + "1" * 200_000)


def a_key_of_20_000_parts(folder: Path) -> Path:
    return write(folder, ".".join("a" * 20_000) + " = 1\n")


def many_keys_of_200_parts(folder: Path) -> Path:
    return write(folder, "".join(f"k{i}.{'.'.join('a' * 200)} = 1\n" for i in range(600)))


def ten_thousand_brackets(folder: Path) -> Path:
    return write(folder, "a = " + "[" * 10_000)


def ten_thousand_tables_in_each_other(folder: Path) -> Path:
    return write(folder, "a = " + "{a = " * 10_000)


def unknown_keys(folder: Path) -> Path:
    return write(folder, QUEUE + "max_atempts = 3\n")


def thousands_of_unknown_keys(folder: Path) -> Path:
    return write(folder, QUEUE + "".join(f"key{i} = 1\n" for i in range(15_000)))


def keys_of_later_versions(folder: Path) -> Path:
    return write(folder, QUEUE + 'max_rss = "1GiB"\n[web]\nport = 80\n')


def queues_by_the_thousand(folder: Path) -> Path:
    return write(folder, "".join(f'[queues.q{i}]\nhandler = "m:f"\n' for i in range(5_000)))


def a_queue_name_with_escapes(folder: Path) -> Path:
    return write(folder, '[queues."q\\u001b[2J\\u202e"]\nhandler = "m:f"\n')


def a_socket_path_too_long(folder: Path) -> Path:
    return write(folder, f'{QUEUE}[daemon]\nrun_dir = "{"r" * 100}"\n')


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a file that is missing": (missing, "1: file: does not exist; name another file with -c FILE"),
    "a file that cannot be read": (unreadable, "1: file: cannot be read by this user; give it read permission"),
    "an empty file": (empty, "1: file: is empty; write at least one [queues.NAME], or [daemon]"),
    "a file of comments only": (comments_only, "1: file: is empty"),
    "a directory": (a_directory, "1: file: is a directory; name a regular file"),
    "a FIFO": (a_fifo, "1: file: is a FIFO; name a regular file"),
    "a device": (a_device, "1: file: is a device; name a regular file"),
    "10 MB": (ten_megabytes, "1: file: is larger than 256 KiB; divide it into files below queues.d"),
    "bytes that are not UTF-8": (not_utf8, "3: file: byte 0xff is not UTF-8; save the file as UTF-8"),
    "a byte order mark": (a_byte_order_mark, "1: file: begins with a byte order mark"),
    "a world-writable file": (world_writable, "1: file: can be written by everyone, and configuration is code"),
    "a file in a world-writable directory": (in_a_world_writable_directory, "can be written by everyone"),
    "a link into a world-writable directory": (a_link_into_a_world_writable_directory, "can be written by everyone"),
    "a link to itself": (a_link_to_itself, "1: file: is a symbolic link that leads to itself"),
    "duplicate keys": (duplicate_keys, "7: defaults.workers: is defined a second time, first on line 6"),
    "two queues with one name": (two_queues_with_one_name, "4: queues.q: is defined a second time, first on line 1"),
    "booleans for numbers": (booleans_for_numbers, "3: queues.q.workers: true is a boolean; write an integer"),
    "inf and nan": (inf_and_nan, "3: queues.q.backoff.factor: inf is not finite; write a number from 1 to 100"),
    "huge numbers": (huge_numbers, "3: queues.q.workers: a huge number is out of range"),
    "a number of 200,000 digits": (a_number_of_200_000_digits, "3: file: a number has thousands of digits"),
    "a key of 20,000 dotted parts": (a_key_of_20_000_parts, "1: file: nested deeper than 8 levels"),
    "many keys of 200 parts": (many_keys_of_200_parts, "1: file: nested deeper than 8 levels"),
    "10,000 brackets": (ten_thousand_brackets, "1: file: nested deeper than 8 levels"),
    "10,000 tables in each other": (ten_thousand_tables_in_each_other, "1: file: nested deeper than 8 levels"),
    "unknown keys": (unknown_keys, "3: queues.q.max_atempts: unknown key; did you mean max_attempts?"),
    "thousands of unknown keys": (thousands_of_unknown_keys, "3: queues.q.key0: unknown key"),
    "keys of later versions": (
        keys_of_later_versions,
        "3: queues.q.max_rss: belongs to a later version of jobsup (recycling by memory)",
    ),
    "more than 256 queues": (queues_by_the_thousand, "1: queues: are 5000; write at most 256"),
    "a queue name with escapes": (a_queue_name_with_escapes, r'1: queues."q\u001b[2J\u202e": "q\u001b[2J\u202e" holds'),
    "a socket path that is too long": (a_socket_path_too_long, "as the kernel takes 107"),
}


@pytest.fixture
def no_longer_root() -> object:
    """Root reads everything: for the time of a test, be nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("name", [name for name in BAD if name != "a file that cannot be read"])
def test_bad_input_is_a_clear_error_in_bounded_time(tmp_path: Path, name: str) -> None:
    make, sentence = BAD[name]
    path = make(tmp_path)
    before = time.process_time()
    found = problems(path)
    assert time.process_time() - before < 2
    assert sentence in found[0]
    assert all(LINE.fullmatch(problem) for problem in found[:100])
    assert all(problem.isprintable() for problem in found)


def test_a_file_that_cannot_be_read(tmp_path_factory: pytest.TempPathFactory, no_longer_root: object) -> None:
    make, sentence = BAD["a file that cannot be read"]
    folder = Path("/tmp") / f"jobsup-unreadable-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        found = problems(make(folder))
    finally:
        (folder / "queues.toml").unlink()
        folder.rmdir()
    assert sentence in found[0]


def test_thousands_of_problems_are_counted_not_listed(tmp_path: Path) -> None:
    found = problems(thousands_of_unknown_keys(tmp_path))
    assert len(found) == 101
    assert found[-1] == "14900 more problems are not listed"


def test_a_hostile_file_stays_within_the_memory_that_a_reload_is_given(tmp_path: Path) -> None:
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    problems(queues_by_the_thousand(tmp_path))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 100_000


def test_the_docs_name_each_kind_of_bad_input() -> None:
    page = " ".join(reference.markdown().split())
    assert [name for name in BAD if name not in page] == []
