"""Reads `metrics.jsonl`, which `runs/metrics.py` writes, for runs, reports, bench and trials.

After a resume a step may stand twice: the later line counts. A line that a kill cut short, or that
a disk damaged, is left out and named: one point less of a curve ends no run and no report.
"""

from pathlib import Path
from typing import Any

from uae.core.errors import UsageError
from uae.core.journal import read_journal

METRICS = "metrics.jsonl"
_KEYS: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "stage": (str,),
    "session": (str,),
    "wall_s": (int, float),
}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file; each that is none is left out with a warning."""
    return read_journal(path, _line, can_miss=True)


def _line(value: Any, where: str) -> dict[str, Any]:
    is_whole = isinstance(value, dict) and all(
        isinstance(value.get(key), types) for key, types in _KEYS.items()
    )
    if not is_whole:
        raise UsageError(f"{where}: expected an object with {', '.join(_KEYS)}")
    return value
