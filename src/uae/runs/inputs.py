"""Inputs of a run, images, captions or prompts: by name, each with the sha256 of its content.

`data.json` in the run's folder keeps it, and the run goes on with the same alone.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uae.core.durable import replace_file
from uae.core.errors import UsageError
from uae.core.identity import Inputs
from uae.data.survey import Survey

LISTING = "data.json"

log = logging.getLogger(__name__)


def write_inputs(folder: Path, inputs: Inputs) -> None:
    values = {kind: dict(digests) for kind, digests in inputs.items()}
    replace_file(folder / LISTING, (json.dumps(values, indent=0) + "\n").encode())


def read_inputs(folder: Path) -> dict[str, Any] | None:
    """Read what a run began with, None where it kept nothing; a damaged file is a `UsageError`."""
    path = folder / LISTING
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} cannot be read ({error}): restore it") from error


def input_differences(
    before: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Say what was added, removed and changed: a line for each kind, with the first names."""
    lines = []
    for kind in dict.fromkeys([*before, *now]):
        changes = list(_changes(before.get(kind, {}), now.get(kind, {})))
        if changes:
            lines.append(f"{kind}s: {', '.join(changes)}")
    return lines


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    names = {
        "added": sorted(now.keys() - before.keys()),
        "removed": sorted(before.keys() - now.keys()),
        "changed": sorted(name for name in before.keys() & now.keys() if before[name] != now[name]),
    }
    return (f"{len(x)} {change} (first {x[0]})" for change, x in names.items() if x)


def check_data(run_folder: Path, survey: Survey) -> None:
    """Refuse images and captions that are not those the run began with, by a `UsageError`.

    Of runs begun by earlier versions less is known, and what cannot be compared is said.
    """
    before, now = read_inputs(run_folder), survey.inputs
    if before is None:
        log.warning(
            f"%s was begun before images and captions were kept in {LISTING}: whether they are "
            "those of then was not checked",
            run_folder,
        )
        return
    if not all(isinstance(names, dict) for names in before.values()):
        log.warning(
            f"%s was begun when {LISTING} kept the sizes of images alone: neither their content "
            "nor the captions were checked",
            run_folder,
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
