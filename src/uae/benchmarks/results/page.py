"""The page of a benchmark run: its scores, what was left out, and its items in pictures.

One file that fetches nothing, as a training run's report. Any benchmark gets it, from the details
of its rows:

- `pictures`: files by label, see `pictures.py`; of older rows of GenEval `filename` stands for it
- prompts, questions, captions, replies: texts under the names of `_TEXTS`
- `questions`: [question, value] of what an image was asked
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from markupsafe import Markup
from PIL import Image

from uae.benchmarks.results.compare import Comparison
from uae.benchmarks.results.result import BenchResult, read_result
from uae.core.errors import UsageError
from uae.core.unicode import readable
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.report.audit import Audit, by_gravity, summary
from uae.report.charts import Line, rate_chart
from uae.report.page import MAX_BYTES, PictureBudget, page_environment, webp_uri
from uae.runs.rows import ITEMS, ItemRow, read_rows

T = TypeVar("T")

PAGE = "report.html"
AUDITS = "audits.json"
"""What a run's changes mean, see `report.audit`; of an audit alone."""

_NUM_SHOWN = 48
_BUDGETS = tuple(PictureBudget(size, 78, 1.0) for size in (256, 192, 128, 96, 64))
_MAX_WORDS = 60
_TEXTS = (
    *("prompt", "question", "hint", "options", "answer"),
    *("caption", "first", "second", "reply", "reason"),
)


@dataclass(frozen=True, slots=True)
class Card:
    """An item in pictures: label and image of each, and label and text of what is said of it."""

    name: str
    value: str
    pictures: Sequence[tuple[str, Image.Image]]
    texts: Sequence[tuple[str, str]]


def write_page(folder: Path) -> Path:
    """Write the page of a finished run into its folder, and return its path."""
    result = read_result(folder)
    rows = read_rows(folder / ITEMS)
    sample = result.scores[0].score.sample if result.scores else ""
    scored = sorted(
        (row for row in rows if sample in row.samples),
        key=lambda row: (row.samples[sample], row.item),
    )
    half = _NUM_SHOWN // 2
    groups = {"Lowest": scored[:half], "Highest": scored[half:][-half:][::-1]}
    path = folder / PAGE
    _write(
        path,
        "bench.html.j2",
        result=result,
        cards={title: _cards(folder, group, sample) for title, group in groups.items()},
        sample=sample,
        rate_distortion=rate_distortion(result),
        audits=_audits(folder),
        summary=summary,
        settings_lines=settings_lines,
    )
    return path


def _audits(folder: Path) -> list[Audit]:
    """Read what an audit found, the gravest first; nothing of other benchmarks."""
    path = folder / AUDITS
    audits = json.loads(path.read_bytes()) if path.exists() else []
    return by_gravity([Audit(x["name"], x["status"], x["sentence"]) for x in audits])


def rate_distortion(result: BenchResult) -> Markup | None:
    """Draw a result's similarity against the length of its captions; None without a curve."""
    curve = result.settings.get("options", {}).get("curve")
    if not curve:
        return None
    figures = {x.score.name: x.estimate for x in result.scores}
    lines = []
    for method in curve["methods"]:
        names = [f"{method}-{size}" for size in curve["sizes"]]
        points = [(figures[f"{x} tokens"].value, figures[f"{x} overall"]) for x in names]
        kept = sorted((point for point in points if point[1].n), key=lambda point: point[0])
        if len(kept) > 1:
            lines.append(Line(method, tuple(x for x, _ in kept), tuple(e for _, e in kept)))
    return rate_chart(lines, "tokens in a caption", "similarity") if lines else None


def write_comparison(path: Path, before: Path, after: Path, comparison: Comparison) -> None:
    """Write what changed between two runs, and the items that moved most in pictures."""
    folders = (before, after)
    sides = [(folder, {x.item: x for x in read_rows(folder / ITEMS)}) for folder in folders]
    cards = {
        sample: [
            Card(
                move.item,
                f"{move.before:.3g} \u2192 {move.after:.3g}",
                _side_by_side(*(dict(_pictures(folder, x[move.item])) for folder, x in sides)),
                _side_by_side(*(dict(_texts(x[move.item])) for _, x in sides)),
            )
            for move in moves.most
        ]
        for sample, moves in comparison.moves.items()
    }
    values = {"comparison": comparison, "before": before, "after": after, "cards": cards}
    _write(path, "comparison.html.j2", **values)


def _cards(folder: Path, rows: Sequence[ItemRow], sample: str) -> list[Card]:
    cards = [
        Card(row.item, f"{row.samples[sample]:.3g}", _pictures(folder, row), _texts(row))
        for row in rows
    ]
    return [card for card in cards if card.pictures or card.texts]


def _pictures(folder: Path, row: ItemRow) -> list[tuple[str, Image.Image]]:
    """Open an item's pictures; those that are gone are left out."""
    places = {label: folder / place for label, place in row.details.get("pictures", {}).items()}
    if not places and "filename" in row.details:
        places["image"] = Path(row.details["filename"])  # as the command was given it
    pictures = []
    for label, place in places.items():
        with suppress(UnreadableImage):
            pictures.append((label, open_image(place)))
    return pictures


def _texts(row: ItemRow) -> list[tuple[str, str]]:
    """Return what the row says in words, cut, and what its image was asked, the worst first."""
    said = {key: row.details[key] for key in _TEXTS if row.details.get(key)}
    texts = [(key, _cut(value)) for key, value in said.items()]
    asked = sorted(row.details.get("questions", ()), key=lambda pair: pair[1])
    return texts + [(question, f"{value:.2f}") for question, value in asked]


def _cut(value: object) -> str:
    if isinstance(value, Mapping):
        value = ", ".join(f"{letter}. {text}" for letter, text in value.items())
    words = str(value).split()
    return " ".join(words[:_MAX_WORDS]) + (" ..." if len(words) > _MAX_WORDS else "")


def _side_by_side(before: Mapping[str, T], after: Mapping[str, T]) -> list[tuple[str, T]]:
    """Label the pictures or texts of both runs; one that is the same in both stands once."""
    sides, pairs = {"before": before, "after": after}, []
    for label in {**before, **after}:
        if label in before and label in after and before[label] == after[label]:
            pairs.append((label, before[label]))
        else:
            pairs += [(f"{label}, {when}", x[label]) for when, x in sides.items() if label in x]
    return pairs


def _write(path: Path, template: str, **values: object) -> None:
    page = page_environment().get_template(template)
    for budget in _BUDGETS:
        html = page.render(**values, picture=lambda image, b=budget: webp_uri(image, b))
        text = readable(html).encode()
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
