"""The folder of a benchmark run: begun, or taken up with its rows."""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from uae.backends.refused_parameters import REFUSALS, forget_refusals
from uae.benchmarks.results.result import RESULT
from uae.core.config import config_differences
from uae.core.durable import replace_file, sync_folder
from uae.core.journal import write_journal
from uae.core.provenance import BenchSettings
from uae.core.ranks import other_paths
from uae.runs.claim import FolderKind, check_same, contents_of, marker_of, plain
from uae.runs.cut_captions import CUT
from uae.runs.inputs import LISTING, input_differences, read_inputs, write_inputs
from uae.runs.rows import ITEMS, ItemRow, read_rows, row_values, take_in

log = logging.getLogger(__name__)

SETTINGS = "settings.json"

BENCHMARK = FolderKind(
    noun="benchmark run",
    other="other settings",
    marker=SETTINGS,
    format="uae-bench-run-1",
    early=(LISTING, REFUSALS.replace(".", "*."), CUT, ".*.tmp"),
)


def settle(folder: Path, settings: BenchSettings) -> dict[str, Any]:
    """Write what the run is, or compare with what was written when it was begun."""
    # torch stands behind it, which reading and comparing results do without
    from uae.core.environment import describe_environment, numeric_differences

    environment = describe_environment()
    begun = marker_of(folder, BENCHMARK)
    if begun is None or contents_of(folder, BENCHMARK) == "begun":
        forget_refusals(folder)
        (folder / CUT).unlink(missing_ok=True)
        begun = {
            "format": BENCHMARK.format,
            "settings": plain(settings.values()),
            "environment": environment,
            "environment_changes": [],
        }
        write_json(folder / SETTINGS, begun)
        write_inputs(folder, settings.inputs)
        return begun
    check_settings(folder, begun, settings)
    changes = numeric_differences(begun["environment"], environment)
    new = [change for change in changes if change not in begun["environment_changes"]]
    if new:
        log.warning("%s was begun in another environment: %s", folder, ", ".join(new))
        begun["environment_changes"] += new
        write_json(folder / SETTINGS, begun)
    return begun


def check_settings(folder: Path, begun: Mapping[str, Any], settings: BenchSettings) -> None:
    """Refuse to go on with other settings, or other data, than a run was begun with."""
    differences = [
        *input_differences(read_inputs(folder) or settings.inputs, settings.inputs),
        *config_differences(begun["settings"], plain(settings.values())),
    ]
    check_same(folder, BENCHMARK, differences)


def take_up(folder: Path, *, retry_failed: bool) -> list[ItemRow]:
    """Return the rows that are there, those that other ranks of a stopped run wrote among them.

    `items.jsonl` then holds just these: without a torn last line, and without what is to be tried
    again.
    """
    path = folder / ITEMS
    path.touch()
    take_in(path)
    rows = read_rows(path)
    kept = [row for row in rows if not (retry_failed and row.can_retry)]
    if len(kept) < len(rows):
        (folder / RESULT).unlink(missing_ok=True)
        sync_folder(folder)
    write_rows(folder, kept)
    if kept:
        log.info("%s: %d items are done", folder, len(kept))
    return kept


def write_rows(folder: Path, rows: Iterable[ItemRow]) -> None:
    """Write all rows to the one file, and take the files of other ranks away."""
    write_journal(folder / ITEMS, map(row_values, rows))
    for part in other_paths(folder / ITEMS):
        part.unlink()


def write_json(path: Path, values: Any) -> None:
    """Write a file of values whole."""
    replace_file(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())
