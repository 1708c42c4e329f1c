"""What a run on the user's own images learns from: with other images or captions it is another."""

import logging
from pathlib import Path

from uae.core.errors import UsageError
from uae.core.identity import LISTING, input_differences, read_inputs
from uae.data.survey import Survey

log = logging.getLogger(__name__)


def check_data(run_folder: Path, survey: Survey) -> None:
    """Refuse images and captions that are not those the run began with.

    Of runs begun by earlier versions less is known, and what cannot be compared is said.

    Raises:
        UsageError: Counts what was added, removed and changed, and names the first of each.
    """
    before, now = read_inputs(run_folder), survey.inputs
    if before is None:
        log.warning(
            "%s was begun before images and captions were kept in %s: whether they are those of "
            "then was not checked",
            run_folder,
            LISTING,
        )
        return
    if not all(isinstance(names, dict) for names in before.values()):
        log.warning(
            "%s was begun when %s kept the sizes of images alone: neither their content nor the "
            "captions were checked",
            run_folder,
            LISTING,
        )
        before, now = {"image": before}, {"image": _sizes(survey)}
    differences = input_differences(before, now)
    if differences:
        raise UsageError(
            f"{run_folder} is a run on other data than data.folder {survey.listing.folder} holds "
            f"now ({'; '.join(differences)}): put the old files back to resume, or give a new --out"
        )


def _sizes(survey: Survey) -> dict[str, int | None]:
    return dict(zip(survey.listing.names, map(_size, survey.listing.paths), strict=True))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
