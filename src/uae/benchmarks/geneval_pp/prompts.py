"""GenEval++'s prompts and images (yejy53/Echo-4o@28f36d7 `test_scripts/`).

    {"tag": "color_spatial_attr", "prompt": "...",
     "include": [{"class": "fork", "count": 1, "color": "red", "region": "left"}]}

The file is not downloaded. Images are named {line}.jpg, the first line's 1.jpg.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uae.benchmarks.image_origin import check_prompts
from uae.benchmarks.judged.images import ImageSet, check_images, files_of_no_item
from uae.benchmarks.prompt_set import PromptSet, count_at, parse_order
from uae.core.errors import UsageError
from uae.core.json_lines import read_lines

NUM_PROMPTS = 280
"""Of the published file."""
REGIONS = ("left", "right", "above", "below")
SIZES = ("larger", "smaller")

_KEYS = ("class", "count", "color", "region", "size")
_CLAUSE_KEYS = {"include": _KEYS, "exclude": _KEYS}


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
    """Read the file; a prompt's name is its number, from 1 on. Raises `UsageError`."""
    lines = read_lines(path, "GenEval++'s prompt file")
    orders = (parse_order(text, where, _CLAUSE_KEYS, _clause) for where, text in lines)
    return PromptSet({str(i): Prompt(*order) for i, order in enumerate(orders, 1)})


def _clause(values: dict[str, Any], _: int, where: str) -> Clause:
    name, color, region, size = (values.get(k) for k in ("class", "color", "region", "size"))
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: class {name!r}: expected text")
    count = count_at(values, where)
    if color is not None and (not isinstance(color, str) or not color.strip()):
        raise UsageError(f"{where}: color {color!r}: expected text")
    for key, value, known in (("region", region, REGIONS), ("size", size, SIZES)):
        if value is not None and value not in known:
            raise UsageError(f"{where}: {key} {value!r}: expected one of {', '.join(known)}")
    return Clause(name, count, color, region, size)


def image_path(root: Path, name: str) -> Path:
    return root / f"{name}.jpg"


def find_images(root: Path, prompts: PromptSet[Prompt], *, allow_missing: bool = False) -> ImageSet:
    """Find each prompt's image; raises as `check_images`, or for images of other prompts."""
    check_prompts(root, prompts.sha256)
    expected = {name: image_path(root, name) for name in prompts.by_name}
    extra = files_of_no_item(root, expected, _number)
    return check_images(root, expected, extra, allow_missing=allow_missing)


def _number(stem: str) -> str:
    """Return the prompt that a file's name means: 01 is 1, too."""
    return stem.lstrip("0") if stem.isascii() and stem.isdecimal() else stem
