"""Figures as text, alike in sentences, tables and charts. Plain ASCII."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from uae.report.statistics import Estimate

Kind = Literal["number", "share", "count", "significant"]
"""number: 0.612; share: 61.2 % (given in [0, 1]); count: 41.3; significant: 0.00213."""

MISSING = "n/a"

_MAX_DECIMALS = 7
_UNITS: dict[Kind, str] = {"share": " %"}


def value_text(value: float, kind: Kind = "number") -> str:
    """Write one figure."""
    return f"{_digits(value, kind)}{_UNITS.get(kind, '')}" if math.isfinite(value) else MISSING


def interval_text(estimate: Estimate, kind: Kind = "number") -> str:
    """Write an interval, e.g. "0.604 to 0.620"."""
    if not math.isfinite(estimate.low):
        return "no interval"
    return f"{_digits(estimate.low, kind)} to {_digits(estimate.high, kind)}{_UNITS.get(kind, '')}"


def change_text(change: Estimate, kind: Kind = "number") -> str:
    """Write a difference with its sign, e.g. "+0.031"; shares change by percentage points."""
    unit = " points" if kind == "share" else ""
    return f"{_signed(change.value, kind)}{unit}" if math.isfinite(change.value) else MISSING


def change_interval_text(change: Estimate, kind: Kind = "number") -> str:
    """Write a difference's interval, e.g. "+0.024 to +0.038"."""
    if not math.isfinite(change.low):
        return "no interval"
    return f"{_signed(change.low, kind)} to {_signed(change.high, kind)}"


def evidence_text(change: Estimate, kind: Kind = "number") -> str:
    """Write a difference with all that is needed to weigh it."""
    excluded = f", {change.num_excluded} left out" if change.num_excluded else ""
    return (
        f"{change_text(change, kind)}, 95 % interval {change_interval_text(change, kind)}, "
        f"n = {change.n}{excluded}"
    )


def movement_text(change: Estimate, first: Estimate, last: Estimate, kind: Kind) -> str:
    """Say whether a figure moved, and from where to where."""
    before, after = value_text(first.value, kind), value_text(last.value, kind)
    if change.excludes_zero:
        return f"{'rose' if change.rises else 'fell'} from {before} to {after}"
    return f"did not move beyond its interval, {before} before and {after} after"


def listed(names_by_kind: Mapping[str, Sequence[str]], max_listed: int = 5) -> str:
    """Write one line for each kind that has names: their number, and the first of them."""
    lines = []
    for kind, names in names_by_kind.items():
        if names:
            more = f", and {len(names) - max_listed} more" if len(names) > max_listed else ""
            lines.append(f"  {len(names)} {kind}: {', '.join(names[:max_listed])}{more}")
    return "\n".join(lines)


def _digits(value: float, kind: Kind) -> str:
    scaled, num_decimals = _scale(value, kind)
    return f"{scaled:.{num_decimals}f}"


def _signed(value: float, kind: Kind) -> str:
    scaled, num_decimals = _scale(value, kind)
    return f"{scaled:+.{num_decimals}f}" if scaled else f"{0:.{num_decimals}f}"


def _scale(value: float, kind: Kind) -> tuple[float, int]:
    """Return the rounded number to print, never minus zero, and its decimals."""
    if kind == "significant":
        num_decimals = 2 - math.floor(math.log10(abs(value))) if value else 2
        num_decimals = min(max(num_decimals, 0), _MAX_DECIMALS)
        return round(value, num_decimals) + 0.0, num_decimals
    scale, num_decimals = {"number": (1, 3), "share": (100, 1), "count": (1, 1)}[kind]
    return round(scale * value, num_decimals) + 0.0, num_decimals
