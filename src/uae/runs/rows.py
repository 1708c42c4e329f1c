"""One row per item of a benchmark: `items.jsonl`, appended as items are done.

    {"item": "17", "samples": {"answer": 1.0}, "labels": {"split": "VAL"}, "details": {...}}

The order of the rows means nothing. A row that was cut short is left out, and its item is done
again.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uae.core import journal
from uae.core.errors import NonFinite, UsageError
from uae.core.journal import read_journal

ITEMS = "items.jsonl"
_EXPECTED = "one object a line; delete the line to have its item done again"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """What came of one item."""

    item: str
    """Its name, unique within the benchmark."""
    samples: Mapping[str, float | int] = field(default_factory=dict)
    """What it adds to the scores, by name: 1 or 0 for right or wrong, or any number. One that is
    missing could not be measured; it is excluded and counted."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What it belongs to, by kind: {"subtask": "color_recognition"}."""
    cluster: str = ""
    """What it shares with other items, an image or a prompt, so that they are no independent
    trials; empty where it shares nothing."""
    excluded: str = ""
    """Why it has no samples, in words that many items can share."""
    excluded_detail: str = ""
    can_retry: bool = False
    """Excluded for something that may pass, a request that failed, say."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Parts of it that could not be measured though others could, by name, and why."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Anything else as JSON: the reply, what was read from it."""


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _object_of(is_kind: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_kind, value.values()))


_EMPTY = asdict(ItemRow(item=""))
_KINDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "item": (_is_text, "text"),
    "samples": (_object_of(_is_number), "an object of numbers"),
    "labels": (_object_of(_is_text), "an object of texts"),
    "cluster": (_is_text, "text"),
    "excluded": (_is_text, "text"),
    "excluded_detail": (_is_text, "text"),
    "can_retry": (lambda value: isinstance(value, bool), "true or false"),
    "failed": (_object_of(_is_text), "an object of texts"),
    "details": (lambda value: isinstance(value, dict), "an object"),
}


def row_values(row: ItemRow) -> dict[str, Any]:
    """Return a row as JSON values without what is empty; `NonFinite` for a NaN sample."""
    for name, value in row.samples.items():
        if not math.isfinite(value):
            raise NonFinite(f"item {row.item}: sample {name!r} is {value}: expected a number")
    assert not (row.samples and row.excluded), f"item {row.item} is excluded and has samples"
    return {key: value for key, value in asdict(row).items() if value != _EMPTY[key]}


def take_in(path: Path) -> None:
    """Move the rows that other ranks wrote into the one file; see `journal.take_in`."""
    journal.take_in(path, _to_row, lambda row: row.item, _EXPECTED)


def read_rows(path: Path) -> list[ItemRow]:
    """Read the rows of a file; a wrong line is a `UsageError` with file, line and key."""
    rows: dict[str, ItemRow] = {}
    for row in read_journal(path, _to_row, _EXPECTED):
        if row.item in rows:
            raise UsageError(f"{path}: item {row.item!r} has two rows, expected one each")
        rows[row.item] = row
    return list(rows.values())


def _to_row(values: object, where: str) -> ItemRow:
    if not isinstance(values, dict) or not values.get("item"):
        raise UsageError(f"{where}: expected an object with the item's name as 'item'")
    unknown = sorted(set(values) - set(_KINDS))
    if unknown:
        raise UsageError(f"{where}: key {unknown[0]!r} is unknown, expected {', '.join(_KINDS)}")
    for key, value in values.items():
        is_kind, meaning = _KINDS[key]
        if not is_kind(value):
            raise UsageError(f"{where}: key {key!r} is {value!r}: expected {meaning}")
    return ItemRow(**values)
