"""Gaps in the input of a run, looked for before anything is made.

Images that do not open, and those that given captions or redraws do not cover.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uae.benchmarks.results.notes import gaps_option
from uae.benchmarks.unified_bench.pair import Pair
from uae.core.errors import UsageError
from uae.report.format import listed
from uae.runs.first_look import faults_of

log = logging.getLogger(__name__)

UNREADABLE = "unreadable images"

Gaps = Mapping[str, Sequence[str]]
"""Names by what is amiss; an empty kind lacks nothing."""


def image_gaps(images: Mapping[str, Path]) -> Gaps:
    """Look at all images and return those that cannot be opened, each with the reason."""
    return {UNREADABLE: [f"{name}: {fault}" for name, fault in faults_of(images).items()]}


def pair_gaps(pair: Pair, images: Mapping[str, Path]) -> Gaps:
    """Return what a captions file and a folder of redraws lack, if the pair has them.

    What belongs to no image is told by a warning.
    """
    gaps: dict[str, Sequence[str]] = {}
    captions, redraws = pair.files(images)
    if captions:
        log.info(captions.summary)
        gaps["images without a caption"] = [name for name in images if name not in captions.texts]
        warn_of_extra(captions.path, captions.extra, "captions")
    if redraws:
        gaps["images without a redraw"] = [name for name in images if name not in redraws.found]
        files = {file: redraws.folder / file for file in redraws.found.values()}
        faults = faults_of(files, "redraws")
        gaps["unreadable redraws"] = [f"{file}: {fault}" for file, fault in faults.items()]
        warn_of_extra(redraws.folder, redraws.extra, "redraws")
    return gaps


def settled(gaps: Gaps, num_images: int, *, allow_missing: bool) -> dict[str, Any]:
    """Return what is amiss as options of the run's settings, which mark its result."""
    if len(gaps.get(UNREADABLE, ())) == num_images:
        raise UsageError(f"none of {num_images} images opens:\n{listed(gaps)}")
    if any(gaps.values()) and not allow_missing:
        raise UsageError(
            f"not all of {num_images} images can be measured:\n{listed(gaps)}\nAdd or repair them; "
            "or give --allow-missing, and the result will be marked"
        )
    return gaps_option(gaps)


def warn_of_extra(place: Path, names: Sequence[str], what: str) -> None:
    """Say once what belongs to no image."""
    if names:
        log.warning("%s: not used\n%s", place, listed({f"{what} of no image": names}))
