"""Append-only files of one JSON object a line, with one rule for what a kill or a disk left there.

    with Journal(path, lock=True) as journal:
        captions = journal.take_up(to_caption)
        journal.append({"image": "a.jpg", "caption": "a red circle"})

A last line that has no line break and is no JSON was cut short by a kill: it is left out with a
warning, and taken off before the next row. Any other line that is wrong is refused by file and
line; a reader that can do without it leaves it out with a warning (`can_miss`).
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from uae.core.durable import append_whole, replace_file, storage_faults, sync_open
from uae.core.errors import UsageError
from uae.core.json_lines import NotJson, parse_value
from uae.core.lock import lock_file
from uae.core.ranks import other_paths

T = TypeVar("T")
Parse = Callable[[Any, str], T]
"""Makes a row of a line's value, or refuses it by the place that it is given."""

ONE_OBJECT = "one object a line"

log = logging.getLogger(__name__)


class Journal:
    """A journal that is open for appending. Use as a context manager."""

    def __init__(self, path: Path, *, lock: bool) -> None:
        """Open or create the file, whose folder is there.

        `lock` keeps other processes from writing; needless in a folder with a lock of its own.
        """
        self.path = path
        with ExitStack() as undo:
            with storage_faults("cannot write", path):
                self._stream = undo.enter_context(path.open("a+b", buffering=0))
            if lock:
                with storage_faults("cannot lock", path):
                    try:
                        lock_file(self._stream.fileno(), path)
                    except BlockingIOError as error:
                        raise UsageError(f"{path}: another process is writing to it") from error
            undo.pop_all()

    def take_up(self, parse: Parse[T], expected: str = ONE_OBJECT) -> list[T]:
        """Return the rows that are there, and make the file fit for the next.

        Raises:
            UsageError: As `read_journal`; nothing was changed.
            EnvironmentFault: It cannot be shortened.
        """
        scanned = list(_scan(self.path, parse, expected))
        end = scanned[-1][1] if scanned else 0
        if end < self.path.stat().st_size:
            with storage_faults("cannot shorten", self.path):
                self._stream.truncate(end)
        self._stream.seek(max(end - 1, 0))
        if self._stream.read(1) not in (b"", b"\n"):
            self._write(b"\n")
        return [row for row, _ in scanned]

    def append(self, values: Mapping[str, Any]) -> None:
        """Append a row; when this returns the operating system has it, and a kill loses nothing.

        If it cannot be written, the file is as it was.
        """
        self._write(to_line(values))

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        with storage_faults("cannot write", self.path):
            sync_open(self._stream.fileno(), self.path)

    def close(self) -> None:
        """Close the file, which frees it for others."""
        self._stream.close()

    def _write(self, data: bytes) -> None:
        with storage_faults("cannot write", self.path):
            append_whole(self._stream.fileno(), data)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_journal(
    path: Path, parse: Parse[T], expected: str = ONE_OBJECT, *, can_miss: bool = False
) -> list[T]:
    """Return the rows of a journal, in its order; blank lines are passed over.

    Args:
        path: The file.
        parse: Makes a row of a line's value.
        expected: What a line should be, for messages.
        can_miss: Leave wrong lines out with a warning, rather than raise a `UsageError`.
    """
    return [row for row, _ in _scan(path, parse, expected, can_miss)]


def take_in(
    path: Path, parse: Parse[T], key: Callable[[T], str], expected: str = ONE_OBJECT
) -> dict[str, T]:
    """Move the rows that other ranks appended to files of their own into the one file.

    Returns all rows by their key; of a key that is there already the others are dropped, so that
    nothing is lost or doubled if it is stopped anywhere. Without any file there is none after it.

    Raises:
        UsageError: As `read_journal`, or another process is writing to the file.
        EnvironmentFault: It cannot be written.
    """
    parts = other_paths(path)
    if not parts and not path.exists():
        return {}
    with Journal(path, lock=True) as journal:
        rows = {key(row): row for row in journal.take_up(parse, expected)}
        for part in parts:
            for row, values in read_journal(part, lambda x, at: (parse(x, at), x), expected):
                if rows.setdefault(key(row), row) is row:
                    journal.append(values)
        if parts:
            journal.sync()
    for part in parts:
        part.unlink()
    return rows


def write_journal(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Make these the rows of a journal that nobody has open, in full or not at all."""
    data = b"".join(map(to_line, rows))
    if not path.exists() or path.read_bytes() != data:
        replace_file(path, data)


def to_line(values: Mapping[str, Any]) -> bytes:
    """Write a row as one line.

    Of ASCII alone: line separators of Unicode survive it, and file names that are no Unicode.
    """
    return json.dumps(values, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"


def _scan(
    path: Path, parse: Parse[T], expected: str, can_miss: bool = False
) -> Iterator[tuple[T, int]]:
    """Yield each row with the byte at which its line ends."""
    end = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            end += len(line)
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = parse(parse_value(line, where, expected), where)
            except UsageError as error:
                is_torn = isinstance(error, NotJson) and not line.endswith(b"\n")
                if not (is_torn or can_miss):
                    raise
                how = "was cut short" if is_torn else "is damaged or cut short"
                log.warning("%s %s and left out: %.60r", where, how, line)
            else:
                yield row, end
