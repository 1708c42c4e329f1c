"""Captions of images as `uae caption` writes them: one JSON object a line.

Rows are appended as they are made, so a job that was stopped at any moment goes on where it was: a
last line that was cut short is taken off, and its image is captioned again.
"""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from uae.core import journal
from uae.core.durable import storage_faults
from uae.core.errors import UsageError
from uae.core.journal import Journal, read_journal
from uae.core.unicode import check_text

_TYPES: dict[str, tuple[tuple[type, ...], str]] = {  # key -> (accepted types, how to say them)
    "image": ((str,), "text"),
    "caption": ((str,), "text"),
    "num_tokens": ((int, type(None)), "a whole number or null"),
    "model": ((str, type(None)), "text or null"),
    "seed": ((int, type(None)), "a whole number or null"),
    "temperature": ((int, float, type(None)), "a number or null"),
    "max_new_tokens": ((int, type(None)), "a whole number or null"),
    "is_truncated": ((bool,), "true or false"),
    "redraw": ((str, type(None)), "text or null"),
    "similarities": ((dict,), "an object of numbers"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """Settings that captions depend on, alike for all rows that a command adds."""

    model: str
    seed: int
    temperature: float
    max_new_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRow:
    """A caption and where it comes from. Null means unknown, as with captions written by hand.

    Attributes:
        image: Path of the image relative to its folder, with "/".
        caption: The text.
        num_tokens: Its length by the tokenizer of the model that reads it.
        model: Folder or Hub id of the model that wrote it.
        seed: Seed of the sampling.
        temperature: Of the sampling; 0 takes the most probable words.
        max_new_tokens: Longest caption that was allowed, in tokens of the model that wrote it.
        is_truncated: The caption reached the token limit without an end token.
        redraw: Path of the image drawn from it, relative to this file.
        similarities: Image similarity of redraw and image, by backbone.
    """

    image: str
    caption: str
    num_tokens: int | None = None
    model: str | None = None
    seed: int | None = None
    temperature: float | None = None
    max_new_tokens: int | None = None
    is_truncated: bool = False
    redraw: str | None = None
    similarities: Mapping[str, float] = field(default_factory=dict)


def read_rows(path: str | Path) -> list[CaptionRow]:
    """Read a captions file, in its order. Unknown keys are passed over.

    Raises:
        UsageError: A line is wrong; the message names file, line and key.
    """
    return read_journal(Path(path), _to_row)


class CaptionsWriter:
    """Appends rows to a captions file, which may be there already.

    with CaptionsWriter(path) as captions:
        for name in captions.missing(listing.names):
            captions.append(CaptionRow(image=name, ...))
    """

    def __init__(self, path: str | Path) -> None:
        """Open or create the file.

        Raises:
            UsageError: Another process is writing to it, or a line is wrong.
        """
        self.path = Path(path)
        with storage_faults("cannot write", self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            self._journal = undo.enter_context(Journal(self.path, lock=True))
            self._done = set(self._journal.take_up(lambda *line: _to_row(*line).image))
            undo.pop_all()

    def missing(self, images: Iterable[str]) -> list[str]:
        """Return those of `images` that have no row yet, in their order."""
        return [image for image in images if image not in self._done]

    def append(self, row: CaptionRow) -> None:
        """Write a row; when this returns the operating system has it, and a kill loses nothing.

        Raises:
            EnvironmentFault: It cannot be written; names the file.
        """
        values = {key: value for key, value in asdict(row).items() if value not in (None, {})}
        self._journal.append(values)
        self._done.add(row.image)

    def __enter__(self) -> "CaptionsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.close()


def take_in(path: Path) -> None:
    """Move the rows that other ranks wrote into the one file; see `journal.take_in`."""
    journal.take_in(path, _to_row, lambda row: row.image)


def _to_row(values: object, where: str) -> CaptionRow:
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected an object with image and caption")
    for key in ("image", "caption"):
        if key not in values:
            found = ", ".join(values) or "no keys"
            raise UsageError(f"{where}: key {key!r} is missing; found {found}")
    for key, (types, meaning) in _TYPES.items():
        value = values.get(key, types[0]())
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise UsageError(f"{where}: key {key!r} is {value!r}: expected {meaning}")
    _check_name(where, values["image"])
    check_text(values["caption"], f"{where}: key 'caption'")
    known = {key: values[key] for key in _TYPES if key in values}
    return CaptionRow(**{**known, "similarities": _numbers(where, values.get("similarities", {}))})


def _numbers(where: str, similarities: Mapping[str, object]) -> dict[str, float]:
    numbers = {}
    for key, value in similarities.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{where}: key 'similarities.{key}' is {value!r}: expected a number")
        numbers[key] = float(value)
    return numbers


def _check_name(where: str, name: str) -> None:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        expected = "expected a path inside the folder, such as 'a/b.jpg'"
        raise UsageError(f"{where}: key 'image' is {name!r}: {expected}")
