"""From a run's metrics.jsonl to its curves and its throughput.

A line is an object with `step`, `stage` and metrics named `group/name`. After a resume a step may
stand twice: the later line is the one that counts. A last line without an end was cut by a kill.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uae.errors import RunFailed
from uae.eval.report_data import Phase, Series, StageCurves

log = logging.getLogger(__name__)

TIME_PREFIX, TIME_SUFFIX = "time/", "_s"


def curves_from_metrics(path: Path) -> tuple[StageCurves, ...]:
    """Read all curves, stages in the order in which they first appear.

    Raises:
        RunFailed: A line other than a cut last one is not a JSON object with step and stage.
    """
    stages: dict[str, dict[int, dict[str, Any]]] = {}
    for line in _lines(path):
        stages.setdefault(line["stage"], {})[line["step"]] = line
    return tuple(
        StageCurves(stage, _series([lines[step] for step in sorted(lines)]))
        for stage, lines in stages.items()
    )


def throughput_from_metrics(
    path: Path, samples_per_step: Mapping[tuple[str, str], int] | None = None
) -> tuple[Phase, ...]:
    """Read the mean seconds per step of every phase (`time/caption_s` is the phase "caption").

    Args:
        path: A metrics.jsonl.
        samples_per_step: What a phase handles in one step, by (stage, phase), where known.

    Raises:
        RunFailed: As `curves_from_metrics`.
    """
    phases = []
    for stage in curves_from_metrics(path):
        for name, series in stage.series.items():
            if not (name.startswith(TIME_PREFIX) and name.endswith(TIME_SUFFIX)):
                continue
            phase = name.removeprefix(TIME_PREFIX).removesuffix(TIME_SUFFIX)
            seconds = sum(series.values) / len(series.values)
            num_samples = (samples_per_step or {}).get((stage.stage, phase))
            rate = num_samples / seconds if num_samples and seconds > 0 else None
            phases.append(Phase(stage.stage, phase, seconds, rate))
    return tuple(phases)


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    rows = text.split("\n")
    if rows[-1]:
        log.warning("%s: the last line has no end and is left out", path)
    lines = []
    for number, row in enumerate(rows[:-1], start=1):
        if not row.strip():
            continue
        try:
            line = json.loads(row)
        except json.JSONDecodeError as error:
            raise RunFailed(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(line, dict) or "step" not in line or "stage" not in line:
            raise RunFailed(f"{path}, line {number}: expected an object with step and stage")
        lines.append(line)
    return lines


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
