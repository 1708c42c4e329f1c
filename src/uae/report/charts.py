"""Charts as inline SVG that take the page's fonts and colours, in light and dark.

matplotlib draws with placeholder colours, which are then replaced by the page's CSS variables. The
SVG holds no reference to anything outside, and its ids are unique within a page.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle

import matplotlib
import numpy as np
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from uae.report.format import Kind
from uae.report.statistics import Estimate
from uae.report.tables import Series, StageCurves

_COLORS = {  # placeholder -> what the page's style sheet calls it
    "#010101": "var(--chart-line)",
    "#020202": "var(--chart-raw)",
    "#030303": "var(--chart-grid)",
    "#040404": "var(--chart-text)",
}
_LINE, _RAW, _GRID, _TEXT = _COLORS
_SMOOTHED_SHARE = 15  # a curve is averaged over a 15th of its length
_MAX_POINTS = 300  # a chart is about 250 px wide

SPARK_WIDTH, SPARK_HEIGHT = 96, 26


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart of a stage."""

    title: str
    svg: Markup
    first: float
    last: float
    """Of the smoothed curve, as `first`."""
    kind: Kind


PANELS: tuple[tuple[str, str, Kind], ...] = (
    ("loss/", "Loss", "significant"),
    ("reward/mean", "Reward", "number"),
    ("caption/num_tokens", "Caption length, tokens", "count"),
    ("kl/reference", "KL to reference", "significant"),
    ("encoder/kl/reference", "Encoder's KL", "significant"),
    ("decoder/kl/reference", "Decoder's KL", "significant"),
    ("group/zero_spread_share", "Zero-spread groups", "share"),
)
"""Metric name, or the beginning of one that ends in "/"; title; kind."""


def panels(curves: StageCurves) -> tuple[Panel, ...]:
    """Draw the charts of a stage: of each metric in `PANELS` that it logged at least twice."""
    charts = []
    for key, title, kind in PANELS:
        names = [x for x in curves.series if x == key or (x.startswith(key) and key[-1] == "/")]
        for name in names:
            series = curves.series[name]
            if len(series.steps) > 1:
                words = title if len(names) == 1 else f"{title}: {name.removeprefix(key)}"
                charts.append(_panel(f"{curves.stage}-{name}", words, kind, series))
    return tuple(charts)


def moving_average(values: Float[np.ndarray, " n"], width: int) -> Float[np.ndarray, " n"]:
    """Average over a centred window of up to `width` values, shorter at both ends."""
    reach = width // 2
    sums = np.concatenate([[0.0], np.cumsum(values)])
    positions = np.arange(values.size)
    low, high = np.maximum(positions - reach, 0), np.minimum(positions + reach + 1, values.size)
    return (sums[high] - sums[low]) / (high - low)


def spark(estimates: Sequence[Estimate | None], label: str) -> Markup:
    """Draw a row's estimates as dots with their intervals, on the row's own scale."""
    known = [(i, e) for i, e in enumerate(estimates) if e is not None and np.isfinite(e.value)]
    if len(known) < 2:
        return Markup()
    bounds = [b for _, e in known for b in (e.value, e.low, e.high) if np.isfinite(b)]
    low, span = min(bounds), max(max(bounds) - min(bounds), 1e-12)
    step = (SPARK_WIDTH - 12) / (len(estimates) - 1)

    def place(i: int, value: float) -> tuple[float, float]:
        height = (value - low) / span
        return round(6 + i * step, 1), round(SPARK_HEIGHT - 4 - height * (SPARK_HEIGHT - 8), 1)

    path = " ".join("{},{}".format(*place(i, e.value)) for i, e in known)
    marks = [Markup('<polyline points="{}"/>').format(path)]
    for i, e in known:
        x, y = place(i, e.value)
        if np.isfinite(e.low):
            ends = place(i, e.low)[1], place(i, e.high)[1]
            line = Markup('<line x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>')
            marks.append(line.format(x, *ends))
        marks.append(Markup('<circle cx="{}" cy="{}" r="2.4"/>').format(x, y))
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(SPARK_WIDTH, SPARK_HEIGHT, label, Markup().join(marks))


def _panel(identity: str, title: str, kind: Kind, series: Series) -> Panel:
    steps, values = np.array(series.steps, dtype=np.float64), np.array(series.values)
    width = 2 * (values.size // (2 * _SMOOTHED_SHARE)) + 1
    smooth = moving_average(values, width)
    shown = np.unique(np.linspace(0, steps.size - 1, min(steps.size, _MAX_POINTS)).astype(int))
    with _figure(identity, (2.75, 1.7), (0.15, 0.15, 0.83, 0.81)) as (figure, axes):
        axes.plot(steps[shown], values[shown], color=_RAW, linewidth=0.9)
        axes.plot(steps[shown], smooth[shown], color=_LINE, linewidth=1.7)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.margins(x=0.01, y=0.08)
        if kind == "share":
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.set_ylim(bottom=min(0.0, float(values.min())))
        svg = _inline(figure, identity, f"{title} by step")
    return Panel(title, svg, float(smooth[0]), float(smooth[-1]), kind)


@dataclass(frozen=True, slots=True)
class Line:
    """Estimates over a quantity, one line of a chart."""

    name: str
    x: tuple[float, ...]
    """Above 0, rising."""
    estimates: tuple[Estimate, ...]


def rate_chart(lines: Sequence[Line], x_name: str, y_name: str) -> Markup:
    """Draw estimates with their intervals over a quantity that doubles from tick to tick."""
    identity = f"rate-{x_name}"
    with _figure(identity, (5.6, 2.7), (0.1, 0.17, 0.76, 0.78)) as (figure, axes):
        axes.set_xscale("log", base=2)
        for line, style in zip(lines, cycle(("-", "--", ":")), strict=False):
            low, high = [e.low for e in line.estimates], [e.high for e in line.estimates]
            values = [e.value for e in line.estimates]
            axes.fill_between(line.x, low, high, color=_RAW, alpha=0.5, linewidth=0)
            axes.plot(line.x, values, style, color=_LINE, linewidth=1.7, marker="o", markersize=3.5)
            place = (line.x[-1], values[-1])
            axes.annotate(
                line.name, place, (7, -3), textcoords="offset points", color=_TEXT, fontsize=8
            )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.set_xlabel(x_name, fontsize=8, color=_TEXT)
        axes.set_ylabel(y_name, fontsize=8, color=_TEXT)
        return _inline(figure, identity, f"{y_name} by {x_name}")


@contextmanager
def _figure(
    identity: str, size: tuple[float, float], place: tuple[float, float, float, float]
) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure with its axes (left, bottom, width, height) in the page's style."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": identity}):
        figure = Figure(figsize=size)
        axes = figure.add_axes(place)
        axes.grid(axis="y", color=_GRID, linewidth=0.6)
        axes.tick_params(which="both", length=0, labelsize=8, labelcolor=_TEXT, pad=4)
        axes.spines[:].set_visible(False)
        yield figure, axes


def _inline(figure: Figure, identity: str, label: str) -> Markup:
    """Return the figure as an SVG element that belongs to the page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawn = buffer.getvalue()
    view = re.search(r'viewBox="[^"]*"', drawn)
    assert view is not None, "matplotlib wrote an SVG without a viewBox"
    body = drawn[drawn.index(">", view.end()) + 1 :]
    body = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", body)
    body = re.sub(r"<[^>]*>", _short_numbers, body)
    for placeholder, variable in _COLORS.items():
        body = body.replace(placeholder, variable)
    opening = Markup('<svg class="chart" {} role="img" aria-label="{}">')
    return opening.format(Markup(view[0]), label) + Markup(_own_ids(body, identity))


def _short_numbers(tag: re.Match[str]) -> str:
    """Round the coordinates in a tag to a tenth; the texts between tags stay."""
    return re.sub(r"\d+\.\d{2,}", lambda number: f"{float(number[0]):.1f}", tag[0])


def _own_ids(svg: str, identity: str) -> str:
    """Keep the ids that something refers to, prefixed; drop the others and the line breaks."""
    prefix = re.sub(r"\W+", "-", identity)
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([\w.-]+)"', lambda m: m[0] if m[1] in used else "", svg)
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    return re.sub(r"\s+", " ", svg)
