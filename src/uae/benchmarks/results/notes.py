"""In what a run is less than its benchmark, for result, page, text and comparison to say.

What its images lack and prompts that were cut down stand in the options of its settings; what was
left out and what an address refused come about as it runs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from uae.backends.client import Refusal
from uae.runs.cut_captions import CutCaptions

Reasons = Mapping[str, Mapping[str, str]]
"""Items by what they lack or failed at, each with what was wrong with it."""

_NUM_NAMED = 5
_NUM_KEPT = 20
_NOT_REPEATABLE = {
    "temperature": "its answers are drawn at random",
    "seed": "what it draws is another each time",
}
"""What a refused parameter makes another at the next time; the other refusals change no number."""


def gaps_option(names_by_kind: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return what a run lacks as options: of each kind the number, and the first names.

    Args:
        names_by_kind: Names by what is amiss, {"missing images": ["3"]}; empty kinds count nothing.
    """
    gaps = {
        kind: {"num": len(names), "first": list(names[:_NUM_KEPT])}
        for kind, names in names_by_kind.items()
        if names
    }
    return {"gaps": gaps} if gaps else {}


def part_option(num: int, published: int, unit: str) -> dict[str, Any]:
    """Return as options that a run is over fewer `unit` than were published; none if it is not."""
    return {"part": {"num": num, "published": published, "unit": unit}} if num < published else {}


def marks_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Say in what a run is not the whole benchmark, one line each; nothing if it is.

    Args:
        settings: Of the run, as `result.json` holds them.
    """
    options, marks = settings.get("options", {}), []
    if not options.get("is_complete", True) or "gaps" in options:
        gaps = "; ".join(_gap(kind, **gap) for kind, gap in options.get("gaps", {}).items())
        lacking = gaps or "not every prompt has an image"
        marks.append(f"INCOMPLETE, no score of the benchmark: {lacking}")
    if part := options.get("part"):
        of = f"{part['num']:,} of {part['published']:,} {part['unit']}"
        marks.append(f"PART of the benchmark: {of}")
    return tuple(marks)


def failure_marks(
    num_items: int,
    excluded: Reasons,
    failed: Reasons,
    refused: Sequence[Refusal],
    cut: Sequence[CutCaptions] = (),
) -> Iterator[str]:
    """Say how many items count in no score, lack a part or were cut, and what is not repeatable."""
    if excluded:
        num = sum(map(len, excluded.values()))
        counts = _counts(excluded)
        yield f"LEFT OUT: {num:,} of {num_items:,} items count in no score: {counts}"
    if failed:
        yield f"PARTS FAILED, items by part: {_counts(failed)}"
    for x in refused:
        if why := _NOT_REPEATABLE.get(x.param):
            yield f"NOT REPEATABLE: {x.model} at {x.base_url} refuses {x.param}, and {why}"
    yield from (f"CUT: {x}" for x in cut if x.num_cut)


def _counts(items_by_reason: Reasons) -> str:
    return ", ".join(f"{len(items):,} {reason}" for reason, items in items_by_reason.items())


def _gap(kind: str, *, num: int, first: Sequence[str]) -> str:
    more = f", and {num - _NUM_NAMED} more" if num > _NUM_NAMED else ""
    return f"{num} {kind}: {', '.join(first[:_NUM_NAMED])}{more}"
