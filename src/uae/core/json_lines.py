"""JSON a line, read with messages that name line and key, and prompt files that users give."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uae.core.errors import UsageError
from uae.core.unicode import check_text


def read_lines(path: Path, expected: str) -> list[tuple[str, str]]:
    """Return each line's place, for messages, and its text; blank lines are passed over.

    `expected` says what a file should be that is missing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist: expected {expected}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8") from error
    numbered = enumerate(text.split("\n"), start=1)  # splitlines would also split inside a prompt
    lines = [(f"{path}, line {number}", line) for number, line in numbered if line.strip()]
    if not lines:
        raise UsageError(f"{path} is empty: expected one prompt a line")
    return lines


class NotJson(UsageError):
    """A line that is no JSON."""


def parse_value(line: str | bytes, where: str, expected: str) -> Any:
    """Return the value of a line of JSON; `where` is its place, and `expected` what it should be.

    Raises:
        NotJson: It is none, or not in UTF-8.
    """
    try:
        # of bytes `loads` would guess the encoding
        text = line if isinstance(line, str) else line.decode("utf-8-sig", "surrogatepass")
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"{where}: not JSON: expected {expected}") from error


def parse_json(line: str, where: str, expected: str) -> Any:
    """Return the value of a line, as `parse_value`, and refuse texts that are no Unicode."""
    value = parse_value(line, where, expected)
    check_text(value, where)
    return value


def check_keys(values: object, known: Iterable[str], needed: Iterable[str], where: str) -> None:
    """Refuse what is no object of certain keys."""
    if not isinstance(values, dict):
        raise UsageError(f"{where}: {values!r}: expected an object with {', '.join(needed)}")
    for key in values:
        if key not in known:
            raise UsageError(f"{where}: key {key!r} is unknown: expected {', '.join(known)}")
    for key in needed:
        if key not in values:
            raise UsageError(f"{where}: key {key!r} is missing")
