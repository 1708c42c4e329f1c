"""The content of a report, as plain data: everything is measured before a page is written."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image

from uae.report.audit import Audit, summary
from uae.report.format import Kind, change_interval_text, change_text, movement_text
from uae.report.statistics import Estimate, estimate, paired_difference

Better = Literal["up", "down", "neither"]
Samples = Shaped[np.ndarray, " n"]


@dataclass(frozen=True, slots=True)
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
    samples: Sequence[Samples | None],
    *,
    kind: Kind = "number",
    better: Better = "up",
    note: str = "",
    is_headline: bool = False,
    cluster_id: Shaped[np.ndarray, " n"] | None = None,
) -> Row:
    """Estimate a metric at every evaluation point, with paired differences between them.

    `samples` has an item for each point, None where it was not measured; row i is the same scene
    and seed at each of them, and `cluster_id` its image, where several rows share one.
    """
    is_share = kind == "share"

    def difference(before: Samples, after: Samples) -> Estimate:
        return paired_difference(before, after, cluster_id=cluster_id, is_share=is_share)

    estimates, changes, measured = list[Estimate | None](), list[Estimate | None](), list[Samples]()
    for values in samples:
        if values is None:
            estimates.append(None)
            changes.append(None)
            continue
        estimates.append(estimate(values, cluster_id=cluster_id, is_share=is_share))
        changes.append(difference(measured[-1], values) if measured else None)
        measured.append(values)
    overall = difference(measured[0], measured[-1]) if len(measured) > 1 else None
    return Row(
        group, name, tuple(estimates), tuple(changes), overall, kind, better, note, is_headline
    )


def result_in_words(
    subject: str,
    row: Row,
    audits: Sequence[Audit],
    unmeasured: str = "no image has it before and after",
) -> str:
    """Say what a run did to its main metric, and whether the audits object.

    `subject` begins the sentence; `unmeasured` says why there is no number, where there is none.

    Raises:
        ValueError: The metric was measured at fewer than two points.
    """
    measured = [point for point in row.estimates if point is not None]
    if row.overall is None:
        raise ValueError(f"row {row.name!r} was measured once: a result needs before and after")
    if math.isnan(row.overall.value):
        return f"{subject} was not measured: {unmeasured}. Audits: {summary(audits)}."
    movement = movement_text(row.overall, measured[0], measured[-1], row.kind)
    evidence = (
        f"{change_text(row.overall, row.kind)}, 95 % interval "
        f"{change_interval_text(row.overall, row.kind)}, n = {row.overall.n}"
    )
    return f"{subject} {movement} ({evidence}). Audits: {summary(audits)}."


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
