"""The folder of a benchmark run as it is found: refused, begun, or taken up with its rows."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from uae.backends.refused_parameters import REFUSALS, forget_refusals
from uae.benchmarks.results.result import RESULT
from uae.core.config import config_differences
from uae.core.durable import holds_nothing_but, replace_file, sync_folder
from uae.core.errors import UsageError
from uae.core.identity import LISTING, input_differences, read_inputs, write_inputs
from uae.core.lock import LOCK_NAME
from uae.core.provenance import BenchSettings
from uae.core.ranks import other_paths
from uae.runs.rows import ITEMS, ItemRow, read_rows, to_line

log = logging.getLogger(__name__)

Resume = Literal["auto", "must", "never"]

SETTINGS = "settings.json"

_FORMAT = "uae-bench-run-1"


def check(folder: Path, resume: Resume) -> None:
    """Refuse a folder that holds something else, or that is against `resume`.

    Raises:
        UsageError: Says what it holds.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: expected a folder")
    begun = _read_settings(folder)
    if begun is None and folder.exists():
        leftovers = {LOCK_NAME, f".{SETTINGS}.tmp", LISTING, f".{LISTING}.tmp"}
        if any(path.name not in leftovers for path in folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty and holds no benchmark run (it has no {SETTINGS} of ours): "
                "choose an empty or new folder; nothing was changed"
            )
    if begun is None and resume == "must":
        raise UsageError(f"{folder} holds no benchmark run to resume: check the path")
    if begun is not None and resume == "never" and not _is_untouched(folder):
        raise UsageError(f"{folder} holds a benchmark run: resume it, or choose another folder")


def _is_untouched(folder: Path) -> bool:
    """Whether a run that was begun has left no row, caption or picture."""
    refusals = {path.name for path in (folder / REFUSALS, *other_paths(folder / REFUSALS))}
    return holds_nothing_but(folder, {LOCK_NAME, SETTINGS, LISTING, *refusals})


def _read_settings(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return content if content["format"] == _FORMAT else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def settle(folder: Path, settings: BenchSettings) -> dict[str, Any]:
    """Write what the run is, or compare with what was written when it was begun.

    A run that has done nothing yet, whose model could not be loaded say, may become another one.

    Raises:
        UsageError: It was begun with other settings.
    """
    # torch stands behind it, which reading and comparing results do without
    from uae.core.environment import describe_environment, numeric_differences

    environment = describe_environment()
    begun = _read_settings(folder)
    if begun is None or _is_untouched(folder):
        forget_refusals(folder)
        begun = {
            "format": _FORMAT,
            "settings": _plain(settings),
            "environment": environment,
            "environment_changes": [],
        }
        write_inputs(folder, settings.inputs)
        replace_file(folder / SETTINGS, to_json(begun))
        return begun
    check_settings(folder, begun, settings)
    changes = numeric_differences(begun["environment"], environment)
    new = [change for change in changes if change not in begun["environment_changes"]]
    if new:
        log.warning("%s was begun in another environment: %s", folder, ", ".join(new))
        begun["environment_changes"] += new
        replace_file(folder / SETTINGS, to_json(begun))
    return begun


def check_settings(folder: Path, begun: Mapping[str, Any], settings: BenchSettings) -> None:
    """Refuse to go on with other settings, or other data, than a run was begun with.

    Raises:
        UsageError: Names the differences; of images, captions and prompts how many, and the first.
            Earlier runs have kept digests of all together.
    """
    differences = [
        *input_differences(read_inputs(folder) or settings.inputs, settings.inputs),
        *config_differences(begun["settings"], _plain(settings)),
    ]
    if differences:
        raise UsageError(
            f"{folder} is a run with other settings:\n  "
            + "\n  ".join(differences)
            + "\nrepeat it as it was to resume, or choose another folder"
        )


def _plain(settings: BenchSettings) -> dict[str, Any]:
    return json.loads(json.dumps(settings.values(), allow_nan=False))


def take_up(folder: Path, *, retry_failed: bool) -> list[ItemRow]:
    """Return the rows that are there, those that other ranks of a stopped run wrote among them.

    `items.jsonl` then holds just these: without a torn last line, and without what is to be tried
    again.

    Raises:
        UsageError: A row is wrong.
    """
    path = folder / ITEMS
    path.touch()
    rows, end = read_rows(path)
    found = {row.item: row for row in rows}
    parts = other_paths(path)
    for part in parts:
        for row in read_rows(part)[0]:
            found.setdefault(row.item, row)  # there if the kill came between writing and removing
    kept = [row for row in found.values() if not (retry_failed and row.can_retry)]
    data = path.read_bytes()[:end]
    if len(kept) < len(found):
        (folder / RESULT).unlink(missing_ok=True)
        sync_folder(folder)
    if kept != rows:
        data = b"".join(map(to_line, kept))
    elif data and not data.endswith(b"\n"):
        data += b"\n"
    if data != path.read_bytes():
        replace_file(path, data)
    for part in parts:
        part.unlink()
    if kept:
        log.info("%s: %d items are done", folder, len(kept))
    return kept


def to_json(values: Mapping[str, Any]) -> bytes:
    """Write a file's values."""
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()
