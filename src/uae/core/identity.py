"""What a run was given, images, captions or prompts: by name, each with the sha256 of its content.

`data.json` in the run's folder keeps it, and the run goes on with the same alone. Neither sizes nor
dates count: a file that was copied is the same, one that was edited is another.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uae.core.durable import replace_file
from uae.core.errors import UsageError

LISTING = "data.json"

Inputs = Mapping[str, Mapping[str, str | None]]
"""Digests by kind, "image" or "caption" say, then by name; None where a file cannot be read."""


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, read in pieces.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def text_digest(text: str) -> str:
    """Return the sha256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def text_digests(texts: Mapping[str, str]) -> dict[str, str | None]:
    """Return the sha256 of each text, by its name."""
    return {name: text_digest(text) for name, text in texts.items()}


def write_inputs(folder: Path, inputs: Inputs) -> None:
    """Keep what a run begins with."""
    values = {kind: dict(digests) for kind, digests in inputs.items()}
    replace_file(folder / LISTING, (json.dumps(values, indent=0) + "\n").encode())


def read_inputs(folder: Path) -> dict[str, Any] | None:
    """Read what a run began with; None where it kept nothing.

    Raises:
        UsageError: The file is damaged.
    """
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
