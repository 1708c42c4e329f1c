"""Reads `metrics.jsonl`, for the run that goes on as for the report, bench and trials.

One JSON object per line, see `runs/metrics.py`. After a resume a step may stand twice: the later
line is the one that counts. A line that a kill cut short, or that a disk damaged, is left out and
named: what a step did is in the weights, and one point less of a curve ends no run and no report.
"""

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

METRICS = "metrics.jsonl"
_KEYS: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "stage": (str,),
    "session": (str,),
    "wall_s": (int, float),
}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file; each that is none is left out with a warning."""
    lines = []
    for number, data in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not data.strip():
            continue
        line = _line(data)
        if line is None:
            log.warning(
                "%s, line %d is damaged or cut short and left out: %.60r", path, number, data
            )
        else:
            lines.append(line)
    return lines


def _line(data: bytes) -> dict[str, Any] | None:
    """Read a line; None where it is no object that says where it belongs."""
    try:
        line = json.loads(data.decode())  # of bytes it would guess the encoding
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    is_whole = all(isinstance(line.get(key), types) for key, types in _KEYS.items())
    return line if is_whole else None
