"""The page of a benchmark run: its scores, what was left out, and its items in pictures.

One file that fetches nothing, as a training run's report. Any benchmark gets it: an item's pictures
are the files that its row names in `details["pictures"]` (label -> path, relative to the run folder
or not), or in `details["filename"]`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup
from PIL import Image

from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.errors import UsageError
from uae.eval.charts import Line, rate_chart
from uae.eval.report import MAX_BYTES, PictureBudget, page_environment, webp_uri
from uae.eval.results.compare import Comparison
from uae.eval.results.result import BenchResult, read_result
from uae.eval.results.rows import ITEMS, ItemRow, read_rows

PAGE = "report.html"

_NUM_SHOWN = 48
_BUDGETS = tuple(PictureBudget(size, 78, 1.0) for size in (256, 192, 128, 96, 64))
_MAX_WORDS = 60


@dataclass(frozen=True, slots=True)
class Card:
    """An item in pictures: label and image of each, and what is said of it."""

    name: str
    value: str
    pictures: Sequence[tuple[str, Image.Image]]
    lines: Sequence[str] = ()


def write_page(folder: Path) -> Path:
    """Write the page of a finished run into its folder, and return its path.

    Raises:
        UsageError: The folder holds no finished run.
    """
    result = read_result(folder)
    rows = read_rows(folder / ITEMS)[0]
    sample = result.scores[0].score.sample if result.scores else ""
    scored = sorted(
        (row for row in rows if sample in row.samples),
        key=lambda row: (row.samples[sample], row.item),
    )
    half = _NUM_SHOWN // 2
    groups = {"Lowest": scored[:half], "Highest": scored[half:][-half:][::-1]}
    cards = {title: _cards(folder, group, sample) for title, group in groups.items()}
    path = folder / PAGE
    _write(
        path,
        "bench.html.j2",
        result=result,
        cards=cards,
        sample=sample,
        rate_distortion=rate_distortion(result),
        settings_lines=settings_lines,
    )
    return path


def rate_distortion(result: BenchResult) -> Markup | None:
    """Draw a result's similarity against the length of its captions; None without a curve."""
    curve = result.settings.get("options", {}).get("curve")
    if not curve:
        return None
    found = {x.score.name: x.estimate for x in result.scores}
    lines = []
    for method in curve["methods"]:
        names = [f"{method}-{size}" for size in curve["sizes"]]
        points = [(found[f"{name} tokens"].value, found[f"{name} overall"]) for name in names]
        kept = sorted((point for point in points if point[1].n), key=lambda point: point[0])
        if len(kept) > 1:
            lines.append(Line(method, tuple(x for x, _ in kept), tuple(e for _, e in kept)))
    return rate_chart(lines, "tokens in a caption", "similarity") if lines else None


def write_comparison(path: Path, before: Path, after: Path, found: Comparison) -> None:
    """Write a page with what changed between two runs, and the items that moved most in pictures.

    Raises:
        UsageError: The page cannot be made small enough.
    """
    sides = [{row.item: row for row in read_rows(folder / ITEMS)[0]} for folder in (before, after)]
    cards = {}
    for sample, moves in found.moves.items():
        cards[sample] = [
            Card(
                move.item,
                f"{move.before:.3g} -> {move.after:.3g}",
                _side_by_side(
                    *(
                        dict(_pictures(folder, rows[move.item]))
                        for folder, rows in zip((before, after), sides, strict=True)
                    )
                ),
                [
                    f"{when}: {line}"
                    for rows, when in zip(sides, ("before", "after"), strict=True)
                    for line in _lines(rows[move.item])
                ],
            )
            for move in moves.most
        ]
    _write(path, "comparison.html.j2", found=found, before=before, after=after, cards=cards)


def _cards(folder: Path, rows: Sequence[ItemRow], sample: str) -> list[Card]:
    cards = [
        Card(row.item, f"{row.samples[sample]:.3g}", _pictures(folder, row), _lines(row))
        for row in rows
    ]
    return [card for card in cards if card.pictures or card.lines]


def _pictures(folder: Path, row: ItemRow) -> list[tuple[str, Image.Image]]:
    """Open an item's pictures; those that are gone are left out."""
    named = row.details.get("pictures") or (
        {"image": row.details["filename"]} if "filename" in row.details else {}
    )
    found = []
    for label, place in named.items():
        try:
            found.append((label, open_image(folder / place)))
        except UnreadableImage:
            continue
    return found


def _side_by_side(
    before: Mapping[str, Image.Image], after: Mapping[str, Image.Image]
) -> list[tuple[str, Image.Image]]:
    """Label the pictures of both runs; one that is the same in both stands once."""
    same = {label for label in before if label in after and before[label] == after[label]}
    found = [(label, before[label]) for label in before if label in same]
    for when, pictures in (("before", before), ("after", after)):
        found += [(f"{label}, {when}", x) for label, x in pictures.items() if label not in same]
    return found


def _lines(row: ItemRow) -> list[str]:
    """Return what the row says in words: its texts, cut."""
    keys = ("caption", "first", "second", "question", "reply", "reason")
    texts = [str(row.details[key]) for key in keys if row.details.get(key)]
    return [" ".join(text.split()[:_MAX_WORDS]) for text in texts]


def _write(path: Path, template: str, **values: object) -> None:
    page = page_environment().get_template(template)
    for budget in _BUDGETS:
        text = page.render(**values, picture=lambda image, b=budget: webp_uri(image, b)).encode()
        if len(text) < MAX_BYTES:
            path.write_bytes(text)
            return
    raise UsageError(f"{path} would hold over {MAX_BYTES / 1e6:.0f} MB even with small pictures")


def settings_lines(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as (dotted key, value), file digests left out."""
    lines: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            if key != "files":
                lines += settings_lines(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", str(value)))
    return lines
