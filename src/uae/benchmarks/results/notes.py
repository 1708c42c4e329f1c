"""In what a run is less than its benchmark, for result, page, text and comparison to say.

What its images lack and prompts that were cut down stand in the options of its settings; what was
left out and what an address refused come about as it runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from uae.backends.client import Refusal

_NUM_NAMED = 5
_NUM_KEPT = 20
_DRAWN = {
    "temperature": "its answers are drawn at random",
    "seed": "what it draws is another each time",
}


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
    """Return as options that a run is over fewer prompts than were published; none if it is not.

    Args:
        num: Prompts of the run.
        published: Prompts of the benchmark.
        unit: What they are, "prompts" say.
    """
    return {"part": {"num": num, "published": published, "unit": unit}} if num < published else {}


def marks_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Say in what a run is not the whole benchmark, one line each; nothing if it is.

    Args:
        settings: Of the run, as `result.json` holds them.
    """
    options = settings.get("options", {})
    found = []
    if not options.get("is_complete", True) or "gaps" in options:
        said = "; ".join(_gap(kind, **gap) for kind, gap in options.get("gaps", {}).items())
        lacking = said or "not every prompt has an image"
        found.append(f"INCOMPLETE, no score of the benchmark: {lacking}")
    if "part" in options:
        part = options["part"]
        found.append(
            f"PART of the benchmark: {part['num']:,} of {part['published']:,} {part['unit']}"
        )
    return tuple(found)


def left_out_mark(num_by_reason: Mapping[str, int], num_items: int) -> tuple[str, ...]:
    """Say how many items count in no score, and why; nothing where all count."""
    if not num_by_reason:
        return ()
    num = sum(num_by_reason.values())
    return (
        f"LEFT OUT: {num:,} of {num_items:,} items count in no score: {_counts(num_by_reason)}",
    )


def failed_parts_mark(num_by_part: Mapping[str, int]) -> tuple[str, ...]:
    """Say of how many items a part is missing; nothing where none is."""
    return (f"PARTS FAILED, items by part: {_counts(num_by_part)}",) if num_by_part else ()


def refusal_marks(refusals: Sequence[Refusal]) -> tuple[str, ...]:
    """Say what makes a run's numbers others at the next time; the other refusals change none."""
    return tuple(
        f"NOT REPEATABLE: {x.model} at {x.base_url} refuses {x.param}, and {_DRAWN[x.param]}"
        for x in refusals
        if x.param in _DRAWN
    )


def _counts(nums: Mapping[str, int]) -> str:
    return ", ".join(f"{num:,} {name}" for name, num in nums.items())


def _gap(kind: str, *, num: int, first: Sequence[str]) -> str:
    shown = ", ".join(first[:_NUM_NAMED])
    more = f", and {num - _NUM_NAMED} more" if num > _NUM_NAMED else ""
    return f"{num} {kind}: {shown}{more}"
