"""GenEval++'s prompts and images (yejy53/Echo-4o@28f36d7 `test_scripts/`).

    {"tag": "color_spatial_attr", "prompt": "...",
     "include": [{"class": "fork", "count": 1, "color": "red", "region": "left"}]}

The file is not downloaded. Images are named {line}.jpg, the first line's 1.jpg.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uae.benchmarks.image_origin import check_prompts
from uae.benchmarks.judged.images import ImageSet, check_images, files_of_no_item
from uae.benchmarks.prompt_set import PromptSet
from uae.core.errors import UsageError
from uae.core.json_lines import check_keys, parse_json, read_lines

NUM_PROMPTS = 280
"""Of the published file."""
REGIONS = ("left", "right", "above", "below")
SIZES = ("larger", "smaller")

_LINE_KEYS = ("tag", "include", "exclude", "prompt")
_CLAUSE_KEYS = ("class", "count", "color", "region", "size")


@dataclass(frozen=True, slots=True)
class Clause:
    """`count` objects of a class, of a colour, in a region, larger or smaller than the others."""

    class_name: str
    count: int
    color: str | None = None
    region: str | None = None
    size: str | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt and what its image must show: every `include` clause and no `exclude` clause."""

    tag: str
    text: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...]


def read_prompts(path: Path) -> PromptSet[Prompt]:
    """Read the file: one JSON object a line. Blank lines are passed over.

    A prompt's name is its number, from 1 on.

    Raises:
        UsageError: The file is missing or empty, or a line is wrong; the message names line and
            key.
    """
    lines = read_lines(path, "GenEval++'s prompt file")
    return PromptSet({str(i): _prompt(text, where) for i, (where, text) in enumerate(lines, 1)})


def _prompt(line: str, where: str) -> Prompt:
    values = parse_json(line, where, "one object with tag and prompt")
    check_keys(values, _LINE_KEYS, ("tag", "include", "prompt"), where)
    for key in ("tag", "prompt"):
        if not isinstance(values[key], str) or not values[key].strip():
            raise UsageError(f"{where}: key {key!r} is {values[key]!r}: expected text")
    include = tuple(_clauses(values["include"], "include", where))
    exclude = tuple(_clauses(values.get("exclude", []), "exclude", where))
    if not include:
        raise UsageError(f"{where}: key 'include' is empty: expected at least one clause")
    return Prompt(values["tag"], values["prompt"], include, exclude)


def _clauses(values: object, name: str, where: str) -> Iterator[Clause]:
    if not isinstance(values, list):
        raise UsageError(f"{where}: key {name!r} is {values!r}: expected a list of clauses")
    for index, clause in enumerate(values):
        place = f"{where}: key '{name}[{index}]'"
        check_keys(clause, _CLAUSE_KEYS, _CLAUSE_KEYS[:2], place)
        yield _clause(clause, place)


def _clause(values: dict[str, Any], where: str) -> Clause:
    name, count = values["class"], values["count"]
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: class {name!r}: expected text")
    if type(count) is not int or count < 1:
        raise UsageError(f"{where}: count {count!r}: expected a whole number from 1 on")
    color, region, size = (values.get(key) for key in _CLAUSE_KEYS[2:])
    if color is not None and (not isinstance(color, str) or not color.strip()):
        raise UsageError(f"{where}: color {color!r}: expected text")
    for key, value, known in (("region", region, REGIONS), ("size", size, SIZES)):
        if value is not None and value not in known:
            raise UsageError(f"{where}: {key} {value!r}: expected one of {', '.join(known)}")
    return Clause(name, count, color, region, size)


def image_path(root: Path, name: str) -> Path:
    """Return the file of a prompt's image."""
    return root / f"{name}.jpg"


def find_images(root: Path, prompts: PromptSet[Prompt], *, allow_missing: bool = False) -> ImageSet:
    """Find each prompt's image.

    Raises:
        UsageError: As `check_images`, the images were drawn for other prompts, or two files are of
            one prompt.
    """
    check_prompts(root, prompts.sha256)
    expected = {name: image_path(root, name) for name in prompts.by_name}
    extra = files_of_no_item(root, expected, _number)
    return check_images(root, expected, extra, allow_missing=allow_missing)


def _number(stem: str) -> str:
    """Return the prompt that a file's name means: 01 is 1, too."""
    return stem.lstrip("0") if stem.isascii() and stem.isdecimal() else stem
