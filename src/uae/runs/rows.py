"""One row per item of a benchmark: `items.jsonl`, appended as items are done.

    {"item": "17", "samples": {"answer": 1.0}, "labels": {"split": "VAL"}, "details": {...}}

The order of the rows means nothing. A row that was cut short is left out, and its item is done
again.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uae.core.errors import NonFinite, UsageError
from uae.core.journal import read_journal

ITEMS = "items.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """What came of one item.

    Attributes:
        item: Its name, unique within the benchmark.
        samples: What it adds to the scores, by name: 1 or 0 for right or wrong, or any number. One
            that is missing could not be measured; it is excluded and counted.
        labels: What it belongs to, by kind: {"subtask": "color_recognition"}.
        cluster: What it shares with other items, an image or a prompt, so that they are no
            independent trials; empty where it shares nothing.
        excluded: Why it has no samples, in words that many items can share; empty otherwise.
        excluded_detail: What was wrong with this one.
        can_retry: Excluded for something that may pass, a request that failed, say.
        failed: Parts of it that could not be measured though others could, by name, and why; the
            samples of the others count.
        details: Anything else as JSON: the reply, what was read from it.
    """

    item: str
    samples: Mapping[str, float | int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    cluster: str = ""
    excluded: str = ""
    excluded_detail: str = ""
    can_retry: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


_EMPTY = asdict(ItemRow(item=""))
_TYPES: dict[str, tuple[type, str]] = {
    "item": (str, "text"),
    "samples": (dict, "an object of numbers"),
    "labels": (dict, "an object of texts"),
    "cluster": (str, "text"),
    "excluded": (str, "text"),
    "excluded_detail": (str, "text"),
    "can_retry": (bool, "true or false"),
    "failed": (dict, "an object of texts"),
    "details": (dict, "an object"),
}


def row_values(row: ItemRow) -> dict[str, Any]:
    """Return a row as JSON values; what is empty is left out.

    Raises:
        NonFinite: A sample is NaN or infinite. One that could not be measured is left out instead.
    """
    for name, value in row.samples.items():
        if not math.isfinite(value):
            raise NonFinite(f"item {row.item}: sample {name!r} is {value}: expected a number")
    assert not (row.samples and row.excluded), f"item {row.item} is excluded and has samples"
    return {key: value for key, value in asdict(row).items() if value != _EMPTY[key]}


def read_rows(path: Path) -> list[ItemRow]:
    """Read the rows of a file.

    Raises:
        UsageError: A line is wrong; the message names file, line and key.
    """
    expected = "one object a line; delete the line to have its item done again"
    rows: dict[str, ItemRow] = {}
    for row in read_journal(path, _to_row, expected):
        if row.item in rows:
            raise UsageError(f"{path}: item {row.item!r} has two rows, expected one each")
        rows[row.item] = row
    return list(rows.values())


def _to_row(values: object, where: str) -> ItemRow:
    if not isinstance(values, dict) or not values.get("item"):
        raise UsageError(f"{where}: expected an object with the item's name as 'item'")
    unknown = sorted(set(values) - set(_TYPES))
    if unknown:
        raise UsageError(f"{where}: key {unknown[0]!r} is unknown, expected {', '.join(_TYPES)}")
    for key, value in values.items():
        kind, meaning = _TYPES[key]
        if not isinstance(value, kind):
            raise UsageError(f"{where}: key {key!r} is {value!r}: expected {meaning}")
    numbers = values.get("samples", {})
    if any(isinstance(x, bool) or not isinstance(x, int | float) for x in numbers.values()):
        raise UsageError(f"{where}: key 'samples' is {numbers!r}: expected an object of numbers")
    for key in ("labels", "failed"):
        texts = values.get(key, {})
        if not all(isinstance(x, str) for x in texts.values()):
            raise UsageError(f"{where}: key {key!r} is {texts!r}: expected an object of texts")
    return ItemRow(**values)
