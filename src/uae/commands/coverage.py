"""Whether captions and redraws that are there already cover the images, before anything is made."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uae.commands.halves import Pair
from uae.errors import UsageError
from uae.eval.figures import listed
from uae.eval.results.marks import gaps_option
from uae.eval.unified_bench.captioners import CaptionsFile
from uae.eval.unified_bench.generators import ImageFolder

log = logging.getLogger(__name__)

MISSING_CAPTIONS, MISSING_REDRAWS = "images without a caption", "images without a redraw"


def gaps_of(pair: Pair, images: Mapping[str, Path], *, allow_missing: bool) -> dict[str, Any]:
    """Return what a captions file and a folder of redraws lack, as options of the run's settings.

    What belongs to no image is told by a warning.

    Args:
        pair: Captioner and generator; others than files and folders lack nothing.
        images: What is to be measured.
        allow_missing: Go on without; the options mark the result.

    Raises:
        UsageError: An image has no caption or no redraw and that is not allowed, or has two.
    """
    names = list(images)
    gaps: dict[str, Sequence[str]] = {}
    if pair.writes.kind == "file":
        captions = CaptionsFile(Path(pair.writes.name))
        found = captions.of(names)
        gaps[MISSING_CAPTIONS] = [name for name in names if name not in found]
        warn_of_extra(captions.path, captions.extra(names), "captions")
    if pair.draws.kind == "folder":
        folder = ImageFolder(Path(pair.draws.name), names)
        gaps[MISSING_REDRAWS] = [name for name in names if name not in folder.found]
        warn_of_extra(folder.folder, folder.extra, "redraws")
    if any(gaps.values()) and not allow_missing:
        raise UsageError(
            f"not all of {len(names)} images can be measured:\n{listed(gaps)}\nAdd what is "
            "missing; or give --allow-missing, and the result will be marked"
        )
    return gaps_option(gaps)


def warn_of_extra(place: Path, names: Sequence[str], what: str) -> None:
    """Say once what belongs to no image."""
    if names:
        log.warning("%s: not used\n%s", place, listed({f"{what} of no image": names}))
