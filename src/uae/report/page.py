"""The report of a run: one HTML file below 5 MB that opens from disk, offline, years later.

Nothing is fetched: pictures are data URIs, charts inline SVG, and a Content-Security-Policy forbids
all else. Everything can be read with scripts off; the only script moves the comparison sliders.
"""

import base64
import difflib
import hashlib
import io
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby
from pathlib import Path

import jinja2
from markupsafe import Markup, escape
from PIL import Image

from uae.core.errors import UsageError
from uae.core.unicode import readable
from uae.report.audit import by_gravity, summary
from uae.report.charts import panels, spark
from uae.report.format import (
    change_interval_text,
    change_text,
    evidence_text,
    interval_text,
    value_text,
)
from uae.report.statistics import Estimate
from uae.report.tables import ReportData, Row, typical_of

log = logging.getLogger(__name__)

MAX_BYTES = 5_000_000
STAGE_TITLES = {
    "pretrain": "Pre-training of the decoder",
    "cold_start": "Cold start",
    "encoder_rl": "Encoder RL: generation for understanding",
    "decoder_rl": "Decoder RL: understanding for generation",
    "joint": "Joint RL",
}

_LOSSLESS_BELOW_PX = 96  # chroma subsampling would smear objects of a few pixels
_MANY_ROWS, _SMALL_GROUP = 20, 4
_MIN_LIKENESS = 0.25  # below this share of common words a diff reads worse than the text alone

_SCRIPT = """
document.documentElement.classList.add("js");
for (const input of document.querySelectorAll(".compare input")) {
  const set = () => input.parentElement.style.setProperty("--split", input.value + "%");
  input.addEventListener("input", set);
  set();
}
"""


@dataclass(frozen=True, slots=True)
class PictureBudget:
    """Share of the pictures that goes into the page."""

    size_px: int
    quality: int
    share: float
    """Share of the gallery that is shown."""


BUDGETS = (
    PictureBudget(320, 82, 1.0),
    PictureBudget(224, 75, 1.0),
    PictureBudget(160, 70, 1.0),
    PictureBudget(128, 65, 0.5),
    PictureBudget(128, 60, 0.2),
)
"""Tried in this order until the page is small enough; the page says when it is not the first."""


def write_report(path: Path, data: ReportData) -> None:
    """Write the report of a run; an existing file is replaced.

    Raises:
        UsageError: The page is too large even with the smallest pictures.
    """
    template = page_environment().get_template("report.html.j2")
    charts = [(stage, drawn) for stage in data.curves if (drawn := panels(stage))]
    for budget in BUDGETS:
        html = template.render(
            data=data,
            charts=charts,
            audits=by_gravity(data.audits),
            main_rows=main_rows(data.rows) if len(data.rows) > _MANY_ROWS else data.rows,
            hero=typical_of(data.gallery),
            gallery=data.gallery[: max(1, round(len(data.gallery) * budget.share))],
            budget=budget,
            is_reduced=budget is not BUDGETS[0],
            webp=partial(webp_uri, budget=budget),
        )
        page = readable(html).encode()
        if len(page) < MAX_BYTES:
            path.write_bytes(page)
            log.info("report written to %s, %.1f MB", path, len(page) / 1e6)
            return
    raise UsageError(
        f"report {path} would hold {len(page) / 1e6:.1f} MB, over {MAX_BYTES / 1e6:.0f} MB: "
        f"show fewer images (gallery {len(data.gallery)}, worst {len(data.worst)})"
    )


def webp_uri(image: Image.Image, budget: PictureBudget) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp_bytes(image, budget)).decode()


def webp_bytes(image: Image.Image, budget: PictureBudget) -> bytes:
    """Encode a picture, made smaller, as WebP; tiny ones stay exact."""
    image = image.convert("RGB")
    image.thumbnail((budget.size_px, budget.size_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if max(image.size) <= _LOSSLESS_BELOW_PX:
        image.save(buffer, "WEBP", lossless=True, quality=100, method=4)
    else:
        image.save(buffer, "WEBP", quality=budget.quality, method=4)
    return buffer.getvalue()


def word_diff(before: str, after: str) -> Markup:
    """Mark what a caption gained (`<ins>`) and lost (`<del>`), word by word.

    One that has little in common with the one before is returned without marks.
    """
    old, new = before.split(), after.split()
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    if matcher.ratio() < _MIN_LIKENESS:
        return escape(after)
    parts: list[Markup] = []
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            parts.append(escape(" ".join(new[k:m])))
        if j > i and kind != "equal":
            parts.append(Markup("<del>{}</del>").format(" ".join(old[i:j])))
        if m > k and kind != "equal":
            parts.append(Markup("<ins>{}</ins>").format(" ".join(new[k:m])))
    return Markup(" ").join(parts)


def main_rows(rows: Sequence[Row]) -> list[Row]:
    """Choose what stands unfolded: small groups whole, of others the first row and headlines."""
    chosen: list[Row] = []
    for _, members in groupby(rows, lambda row: row.group):
        group = list(members)
        is_small = len(group) <= _SMALL_GROUP
        chosen += [row for i, row in enumerate(group) if is_small or i == 0 or row.is_headline]
    return chosen


def tone(change: Estimate | None, row: Row) -> str:
    """Say what a change means for a reader: "good", "bad", "moved" or, within its interval, ""."""
    if change is None or not change.excludes_zero:
        return ""
    if row.better == "neither":
        return "moved"
    return "good" if change.rises == (row.better == "up") else "bad"


def typeset(text: str) -> str:
    """Give numbers their minus sign and keep them with their units."""
    text = re.sub(r"(?<![\w.-])-(?=\d)", "\u2212", text)
    text = re.sub(r"(?<=\d) (?=(%|points)(\W|$))", "\u202f", text)
    return re.sub(r"\bn = (?=\d)", "n\u00a0=\u00a0", text)


def _typeset(function: Callable[..., str]) -> Callable[..., str]:
    return lambda *args: typeset(function(*args))


def _spark(row: Row) -> Markup:
    words = ", ".join("n/a" if e is None else value_text(e.value, row.kind) for e in row.estimates)
    return spark(row.estimates, f"{row.name}: {words}")


def _sample_range(row: Row) -> str:
    counts = sorted({e.n for e in row.estimates if e is not None})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


@cache
def page_environment() -> jinja2.Environment:
    """Return what renders the pages of this package; each template is compiled once."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("uae.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    environment.globals |= {
        "script": Markup(_SCRIPT),
        "script_hash": digest,
        "stage_titles": STAGE_TITLES,
        "groups_of": lambda rows, key: [
            (name, list(group)) for name, group in groupby(rows, lambda row: getattr(row, key))
        ],
        "value": _typeset(value_text),
        "interval": _typeset(interval_text),
        "change": _typeset(change_text),
        "short_change": _typeset(lambda *args: change_text(*args).removesuffix(" points")),
        "change_interval": _typeset(change_interval_text),
        "evidence": _typeset(evidence_text),
        "summary": summary,
        "spark": _spark,
        "sample_range": _sample_range,
        "tone": tone,
        "word_diff": word_diff,
    }
    environment.filters["typeset"] = typeset
    return environment
