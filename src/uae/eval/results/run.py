"""A benchmark run: a folder that is filled item by item, and taken up again after any stop.

settings.json   what the numbers depend on; written first, marks the folder as ours
items.jsonl     one row per item
result.json     scores; there only when every item has its row
lock            held while a process writes

with BenchRun.open(folder, settings) as run:
    for item in run.todo(items, name_of):
        run.add(ItemRow(item=name_of(item), samples={"answer": 1.0}))
    result = run.finish(scores)
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TypeVar

from uae.config import config_differences
from uae.durable import append_whole, replace_file, storage_faults, sync_folder
from uae.errors import UsageError
from uae.eval.results.result import RESULT, BenchResult, exclusions, result_values, score_rows
from uae.eval.results.rows import ITEMS, ItemRow, read_rows, to_line
from uae.eval.results.scores import Score
from uae.eval.results.stamp import BenchSettings
from uae.lock import LOCK_NAME, RunLock

log = logging.getLogger(__name__)

T = TypeVar("T")
Resume = Literal["auto", "must", "never"]

SETTINGS = "settings.json"

_FORMAT = "uae-bench-run-1"


class BenchRun:
    """An open run folder. Use as a context manager."""

    def __init__(self, folder: Path, lock: RunLock, begun: Mapping[str, Any]) -> None:
        """Hold the parts; `BenchRun.open` makes them."""
        self.folder = folder
        self._lock = lock
        self._begun = begun
        self._rows: dict[str, ItemRow] = {}
        self._asked: set[str] | None = None
        self._descriptor = -1

    @classmethod
    def open(
        cls,
        folder: Path,
        settings: BenchSettings,
        *,
        resume: Resume = "auto",
        retry_failed: bool = False,
    ) -> "BenchRun":
        """Begin a run, or take one up.

        Args:
            folder: Made if missing. Must be empty, or a run with equal settings.
            settings: All that the numbers depend on.
            resume: `must` refuses a folder without a run, `never` one with a run.
            retry_failed: Do items again that were excluded for something that may pass.

        Raises:
            UsageError: The folder is in use, of another run, no run folder or against `resume`, or
                a row in it is wrong; the message says which.
            EnvironmentFault: It cannot be written.
        """
        with storage_faults("cannot write the run folder", folder):
            _check(folder, resume)
            folder.mkdir(parents=True, exist_ok=True)
            lock = RunLock(folder)
            with ExitStack() as undo:
                undo.callback(lock.release)
                _check(folder, resume)  # again: another run may have come since the first look
                run = cls(folder, lock, _settle(folder, settings))
                run._take_up(retry_failed)
                undo.pop_all()
        return run

    def __enter__(self) -> "BenchRun":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        self._lock.release()

    @property
    def num_done(self) -> int:
        """Items that have a row."""
        return len(self._rows)

    def todo(self, items: Iterable[T], name_of: Callable[[T], str]) -> Iterator[T]:
        """Yield the items that have no row, in their order; nothing is kept of the others.

        Args:
            items: All items of the run, the same each time.
            name_of: An item's name, unique.

        Raises:
            UsageError: Two items share a name, or there are rows of items that are not among these.
        """
        asked: set[str] = set()
        for item in items:
            name = name_of(item)
            if name in asked:
                raise UsageError(f"item {name!r} comes twice: expected different names")
            asked.add(name)
            if name not in self._rows:
                yield item
        foreign = sorted(set(self._rows) - asked)
        if foreign:
            raise UsageError(
                f"{self.folder / ITEMS} has rows of {len(foreign)} items that are not asked, "
                f"{foreign[0]!r} first: they belong to another run; choose another folder"
            )
        self._asked = asked

    def add(self, row: ItemRow) -> None:
        """Append a row; when this returns a kill loses nothing of it.

        Raises:
            NonFinite: A sample is NaN or infinite; nothing is written.
            EnvironmentFault: The row cannot be written; the file is as it was.
        """
        assert row.item not in self._rows, f"item {row.item} has a row already"
        data = to_line(row)
        with storage_faults("cannot write", self.folder / ITEMS):
            append_whole(self._descriptor, data)
        self._rows[row.item] = row

    def finish(
        self, scores: Sequence[Score] | Callable[[Sequence[ItemRow]], Sequence[Score]]
    ) -> BenchResult:
        """Compute the scores from all rows and write `result.json`.

        Args:
            scores: What is computed; or a function that tells it from the rows.

        Raises:
            EnvironmentFault: The file cannot be written.
        """
        assert self._asked is not None, "finish() comes after all of todo()"
        missing = sorted(self._asked - set(self._rows))
        assert not missing, f"{len(missing)} items got no row, {missing[:3]} first"
        rows = sorted(self._rows.values(), key=lambda row: row.item)
        result = BenchResult(
            settings=self._begun["settings"],
            num_items=len(rows),
            scores=score_rows(rows, scores(rows) if callable(scores) else scores),
            excluded=exclusions(rows),
            environment=self._begun["environment"],
            environment_changes=tuple(self._begun["environment_changes"]),
        )
        with storage_faults("cannot write", self.folder / RESULT):
            os.fsync(self._descriptor)
            replace_file(self.folder / RESULT, _json(result_values(result)))
        return result

    def _take_up(self, retry_failed: bool) -> None:
        """Read the rows that are there; drop a torn last line, and what is to be tried again."""
        path = self.folder / ITEMS
        path.touch()
        rows, end = read_rows(path)
        kept = [row for row in rows if not (retry_failed and row.can_retry)]
        data = path.read_bytes()[:end]
        if len(kept) < len(rows):
            (self.folder / RESULT).unlink(missing_ok=True)
            sync_folder(self.folder)
            data = b"".join(to_line(row) for row in kept)
        elif data and not data.endswith(b"\n"):
            data += b"\n"
        if data != path.read_bytes():
            replace_file(path, data)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._rows = {row.item: row for row in kept}
        if self._rows:
            log.info("%s: %d items are done", self.folder, len(self._rows))


def _check(folder: Path, resume: Resume) -> None:
    """Refuse a folder that holds something else, or that is against `resume`."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: expected a folder")
    begun = _read_settings(folder)
    if begun is None and folder.exists():
        leftovers = {LOCK_NAME, f".{SETTINGS}.tmp"}
        if any(path.name not in leftovers for path in folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty and holds no benchmark run (it has no {SETTINGS} of ours): "
                "choose an empty or new folder; nothing was changed"
            )
    if begun is None and resume == "must":
        raise UsageError(f"{folder} holds no benchmark run to resume: check the path")
    if begun is not None and resume == "never":
        raise UsageError(f"{folder} holds a benchmark run: resume it, or choose another folder")


def _read_settings(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return content if content["format"] == _FORMAT else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None


def _settle(folder: Path, settings: BenchSettings) -> dict[str, Any]:
    """Write what the run is, or compare with what was written when it was begun."""
    # torch stands behind it, which reading and comparing results do without
    from uae.environment import describe_environment, numeric_differences

    values = json.loads(json.dumps(settings.values(), allow_nan=False))
    environment = describe_environment()
    begun = _read_settings(folder)
    if begun is None:
        begun = {
            "format": _FORMAT,
            "settings": values,
            "environment": environment,
            "environment_changes": [],
        }
        replace_file(folder / SETTINGS, _json(begun))
        return begun
    differences = config_differences(begun["settings"], values)
    if differences:
        raise UsageError(
            f"{folder} is a run with other settings:\n  "
            + "\n  ".join(differences)
            + "\nrepeat it as it was to resume, or choose another folder"
        )
    changes = numeric_differences(begun["environment"], environment)
    new = [change for change in changes if change not in begun["environment_changes"]]
    if new:
        log.warning("%s was begun in another environment: %s", folder, ", ".join(new))
        begun["environment_changes"] += new
        replace_file(folder / SETTINGS, _json(begun))
    return begun


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()
