"""From a run's metrics.jsonl to its curves and its throughput.

A step that stands twice was done again after a resume: the later line is the one that counts.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uae.core.metrics_file import read_metrics
from uae.report.tables import Phase, Series, StageCurves

TIME_PREFIX, TIME_SUFFIX = "time/", "_s"


def curves_from_metrics(path: Path) -> tuple[StageCurves, ...]:
    """Read all curves, stages in the order in which they first appear."""
    stages: dict[str, dict[int, dict[str, Any]]] = {}
    for line in read_metrics(path):
        stages.setdefault(line["stage"], {})[line["step"]] = line
    return tuple(
        StageCurves(stage, _series([lines[step] for step in sorted(lines)]))
        for stage, lines in stages.items()
    )


def throughput_of(
    curves: Sequence[StageCurves], samples_per_step: Mapping[tuple[str, str], int] | None = None
) -> tuple[Phase, ...]:
    """Return the mean seconds per step of every phase (`time/caption_s` is the phase "caption").

    `samples_per_step` is what a phase handles in one step, by (stage, phase), where known.
    """
    phases = []
    for stage in curves:
        for name, series in stage.series.items():
            if not (name.startswith(TIME_PREFIX) and name.endswith(TIME_SUFFIX)):
                continue
            phase = name.removeprefix(TIME_PREFIX).removesuffix(TIME_SUFFIX)
            seconds = sum(series.values) / len(series.values)
            num_samples = (samples_per_step or {}).get((stage.stage, phase))
            rate = num_samples / seconds if num_samples and seconds > 0 else None
            phases.append(Phase(stage.stage, phase, seconds, rate))
    return tuple(phases)


def _series(lines: list[dict[str, Any]]) -> dict[str, Series]:
    """Collect every `group/name` that holds a finite number somewhere."""
    points: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if "/" in name and isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, []).append((line["step"], float(value)))
    return {
        name: Series(tuple(step for step, _ in pairs), tuple(value for _, value in pairs))
        for name, pairs in points.items()
    }
