"""Pages of README and docs name files, functions and pages that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import cli_docs

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PRESENT = [page for page in PAGES if page.name != "log.md"]  # the log tells of the past
PLACES = [ROOT / "src/uae", ROOT, ROOT / "src/uae/scenes"]
"""Folders that a path may start at."""


def file_at(path: str) -> Path | None:
    """The file or folder that a page names."""
    return next((place / path for place in PLACES if (place / path).exists()), None)


def names_in(file: Path) -> set[str]:
    """Functions, classes, methods and constants of a module."""
    return set(_names(ast.parse(file.read_text(encoding="utf-8")).body))


def _names(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef():
                yield node.name
            case ast.ClassDef():
                yield node.name
                yield from _names(node.body)
            case ast.Assign():
                yield from (target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case _:
                pass


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)
def test_every_file_and_function_that_a_page_names_exists(page: Path):
    absent = []
    for path, name in re.findall(r"`([\w./-]+\.py)(?::(\w+))?`", page.read_text(encoding="utf-8")):
        file = file_at(path)
        if file is None or (name and name not in names_in(file)):
            absent.append(f"{path}:{name}")
    assert not absent


@pytest.mark.parametrize("page", PRESENT, ids=lambda page: page.name)
def test_every_folder_that_a_page_names_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|tests|bases|bench|faults|docs)/[\w./-]*)`", text)
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_page_and_a_heading(page: Path):
    broken = []
    for path, _, anchor in re.findall(
        r"\]\(((?!https?:)[^)#]*)(#([^)]*))?\)", page.read_text(encoding="utf-8")
    ):
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(f"{path}#{anchor}")
    assert not broken


def anchors(page: Path) -> set[str]:
    """Headings of a page, as links spell them; a second one of a spelling gets a number."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    seen = [slugs[:i].count(slug) for i, slug in enumerate(slugs)]
    return {f"{slug}-{n}" if n else slug for slug, n in zip(slugs, seen, strict=True)}


def test_the_tree_of_the_readme_is_that_of_the_package():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("    src/uae/\n")[2]
    named = re.findall(r"^      (\w+)/ ", tree.partition("\n\n")[0], re.MULTILINE)
    packages = {path.parent.name for path in (ROOT / "src/uae").glob("*/__init__.py")}
    assert sorted(named) == sorted(packages)


def test_the_readme_names_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text]


def test_the_options_in_the_page_of_the_command_line_are_those_of_the_commands():
    text = cli_docs.PAGE.read_text(encoding="utf-8")
    assert text == cli_docs.page_text(text), "run `python scripts/cli_docs.py`"
