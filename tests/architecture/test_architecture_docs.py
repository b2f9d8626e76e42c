"""docs/architecture.md names every module there is; docs/delivery.md and the README say one promise, with its tests."""

from __future__ import annotations

import re

import pytest

from tests.support.code_map import BEGIN, END, PACKAGES, PAGE, ROOT, modules, packages, rewritten, sentence

PROMISE = (
    "A job acknowledged as committed at durability full is on disk. It runs at least once, unless it is cancelled, "
    "expires or is dead-lettered. It is finished exactly once in the table; only the newest lease's outcome counts. "
    "Killing processes never makes a finished job run again; losing power may, for the last instant. Effects outside "
    "are yours to make idempotent; handlers get the token for that."
)


def code_map_of_the_page() -> dict[str, set[str]]:
    """Package to its modules, as the page has them."""
    part = PAGE.read_text().split(BEGIN)[1].split(END)[0]
    sections = re.split(r"^### (\S+)/$", part, flags=re.MULTILINE)[1:]
    rows = (set(re.findall(r"^\| `(\w+\.py)` \|", section, flags=re.MULTILINE)) for section in sections[1::2])
    return dict(zip(sections[::2], rows, strict=True))


def test_every_package_and_module_is_in_the_code_map() -> None:
    wanted = {package: {path.name for path in modules(package)} for package in packages()}
    assert code_map_of_the_page() == wanted, "run: python -m tests.support.code_map"


def test_the_code_map_says_what_the_modules_say() -> None:
    page = PAGE.read_text()
    assert page == rewritten(page), "run: python -m tests.support.code_map"


def test_every_package_has_its_place_in_the_order() -> None:
    assert sorted(PACKAGES) == sorted(packages()), "tests/support/code_map.py lists the packages in reading order"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_says_what_it_is(package: str) -> None:
    silent = [path.name for path in (ROOT / package).glob("*.py") if not sentence(path)]
    assert silent == []


def test_links_of_the_docs_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if not target.startswith("http") and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_every_test_that_the_delivery_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "delivery.md").read_text()))
    there = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    assert len(named) > 20
    assert named <= there, sorted(named - there)


@pytest.mark.parametrize("page", ["README.md", "docs/delivery.md"])
def test_the_promise_is_worded_once(page: str) -> None:
    quoted = re.findall(r"^> (.*)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert " ".join(quoted) == PROMISE
