"""The content of a report, as plain data: everything is measured before a page is written."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image

from uae.report.audit import Audit, summary
from uae.report.format import Kind, change_interval_text, change_text, value_text
from uae.report.statistics import Estimate, estimate, paired_difference

Better = Literal["up", "down", "neither"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric over the evaluation points; None where a point did not measure it."""

    group: str
    """Heading that the row stands under, e.g. "Reconstruction"."""
    name: str
    estimates: tuple[Estimate | None, ...]
    changes: tuple[Estimate | None, ...]
    """Paired difference of each point to the last one before it that measured the metric."""
    overall: Estimate | None
    """Paired difference of the last measured point to the first."""
    kind: Kind = "number"
    better: Better = "up"
    note: str = ""
    """What the metric is, in a few words."""
    is_headline: bool = False
    """Whether it is one of the few figures at the head of the page."""


@dataclass(frozen=True, slots=True)
class GalleryState:
    """One image at one evaluation point."""

    point: str
    caption: str
    redraw: Image.Image | None
    """None where the redraw failed."""
    reward_similarity: float
    held_out_similarity: float


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """One fixed held-out image and what became of it, in the order of the evaluation points."""

    name: str
    original: Image.Image
    states: tuple[GalleryState, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over the steps of a stage; NaN values are left out."""

    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StageCurves:
    """Everything that a stage logged, by metric name."""

    stage: str
    series: Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of a stage's step, and the time that it takes."""

    stage: str
    name: str
    seconds_per_step: float
    samples_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """One run, ready to be shown."""

    title: str
    result: str
    """What came of it, in one or two sentences; `result_in_words` writes one."""
    reproduce: str
    """The command line that repeats it from the run folder's own config."""
    config_yaml: str
    environment: Mapping[str, str]
    """Versions, machine, data, seeds: name to value."""
    points: tuple[str, ...]
    """Names of the evaluation points, in order."""
    rows: tuple[Row, ...]
    table_note: str
    """What the table's figures rest on: data, number of scenes, seeds."""
    gallery: tuple[GalleryItem, ...]
    curves: tuple[StageCurves, ...]
    audits: tuple[Audit, ...]
    throughput: tuple[Phase, ...]
    worst: tuple[GalleryItem, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if not len(row.estimates) == len(row.changes) == len(self.points):
                raise ValueError(
                    f"row {row.name!r} has {len(row.estimates)} estimates: "
                    f"expected one for each of {self.points}"
                )


def metric_row(
    group: str,
    name: str,
    samples: Sequence[Shaped[np.ndarray, " n"] | None],
    *,
    kind: Kind = "number",
    better: Better = "up",
    note: str = "",
    is_headline: bool = False,
    cluster_id: Shaped[np.ndarray, " n"] | None = None,
) -> Row:
    """Estimate a metric at every evaluation point, with paired differences between them.

    Args:
        group: As `Row.group`.
        name: As `Row.name`.
        samples: Per evaluation point, row i being the same scene and seed at each of them; None
            where it was not measured.
        kind: How figures are written.
        better: Which direction is an improvement.
        note: As `Row.note`.
        is_headline: As `Row.is_headline`.
        cluster_id: The image of each row, where several rows share one.
    """
    is_share, changes = kind == "share", list[Estimate | None]()
    measured: list[Shaped[np.ndarray, " n"]] = []
    for values in samples:
        if values is None:
            changes.append(None)
            continue
        changes.append(
            paired_difference(measured[-1], values, cluster_id=cluster_id, is_share=is_share)
            if measured
            else None
        )
        measured.append(values)
    return Row(
        group=group,
        name=name,
        estimates=tuple(
            None if values is None else estimate(values, cluster_id=cluster_id, is_share=is_share)
            for values in samples
        ),
        changes=tuple(changes),
        overall=paired_difference(
            measured[0], measured[-1], cluster_id=cluster_id, is_share=is_share
        )
        if len(measured) > 1
        else None,
        kind=kind,
        better=better,
        note=note,
        is_headline=is_headline,
    )


def result_in_words(
    subject: str,
    row: Row,
    audits: Sequence[Audit],
    unmeasured: str = "no image has it before and after",
) -> str:
    """Say what a run did to its main metric, and whether the audits object.

    Args:
        subject: The metric's name as the sentence's first words.
        row: The main metric, e.g. held-out similarity.
        audits: From `audit.verdict`.
        unmeasured: Why there is no number, where there is none.

    Raises:
        ValueError: The metric was measured at fewer than two points.
    """
    measured = [point for point in row.estimates if point is not None]
    if row.overall is None:
        raise ValueError(f"row {row.name!r} was measured once: a result needs before and after")
    if math.isnan(row.overall.value):
        return f"{subject} was not measured: {unmeasured}. Audits: {summary(audits)}."
    first, last = (value_text(point.value, row.kind) for point in (measured[0], measured[-1]))
    if row.overall.excludes_zero:
        movement = f"{subject} {'rose' if row.overall.rises else 'fell'} from {first} to {last}"
    else:
        movement = f"{subject} did not move beyond its interval, {first} before and {last} after"
    evidence = (
        f"{change_text(row.overall, row.kind)}, 95 % interval "
        f"{change_interval_text(row.overall, row.kind)}, n = {row.overall.n}"
    )
    return f"{movement} ({evidence}). Audits: {summary(audits)}."


def typical_of(items: Sequence[GalleryItem]) -> GalleryItem | None:
    """Return the item whose held-out similarity changed most nearly as the mean of all did.

    The first where there is one evaluation point, or no redraw came; None without items.
    """

    def change(item: GalleryItem) -> float:
        return item.states[-1].held_out_similarity - item.states[0].held_out_similarity

    drawn = [item for item in items if math.isfinite(change(item))]
    if not drawn:
        return items[0] if items else None
    mean = sum(change(item) for item in drawn) / len(drawn)
    return min(drawn, key=lambda item: abs(change(item) - mean))


def worst_of(items: Sequence[GalleryItem], count: int = 20) -> tuple[GalleryItem, ...]:
    """Return the items whose last redraw is least like its original by the held-out backbone."""

    def similarity(item: GalleryItem) -> float:
        return item.states[-1].held_out_similarity

    return tuple(sorted((i for i in items if math.isfinite(similarity(i))), key=similarity)[:count])


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric at one evaluation point."""

    key: str
    """Name in metrics.jsonl, `group/name`."""
    group: str
    name: str
    samples: Float[np.ndarray, " n"]
    cluster_id: Int[np.ndarray, " n"] | None = None
    """The scene of each row, where several rows share one."""
    kind: Kind = "share"
    better: Better = "up"
    note: str = ""
    is_headline: bool = False


def metric_rows(points: Sequence[Sequence[Metric]]) -> tuple[Row, ...]:
    """Join the metrics of several evaluation points to the rows of a report's table."""
    by_key = [{metric.key: metric for metric in point} for point in points]
    merged = {key: metric for point in by_key for key, metric in point.items()}
    return tuple(
        metric_row(
            metric.group,
            metric.name,
            [point[key].samples if key in point else None for point in by_key],
            kind=metric.kind,
            better=metric.better,
            note=metric.note,
            is_headline=metric.is_headline,
            cluster_id=metric.cluster_id,
        )
        for key, metric in merged.items()
    )
