"""Multiple-choice questions about images as TSV files, in MMT-Bench's columns.

    index  question  [hint]  A  B  [C ... I]  answer  [category]  [l2-category]  [split]  image

One row is a question (`category` is its subtask, `l2-category` its meta-task); without one of these
columns all rows are of one category or split. Questions of text alone have no `image`, which holds
base64 (see `base64_image.py`), or, where several images are kept apart, a list of it:
['/9j/...', 'iVBOR...'], or the index of another row that has the same images
(open-compass/VLMEvalKit `vlmeval/dataset/image_base.py`).
Rows are read one by one, with their images still encoded, so a file of any size needs the memory of
its largest row, and that of the images that other rows refer to.

VLMEvalKit reads with pandas, which takes an option such as "None" or "NA" for an empty cell and
drops it; here it is a text like any other.
"""

import base64
import csv
import functools
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from uae.core.errors import UsageError
from uae.data.base64_image import open_base64

LETTERS = "ABCDEFGHI"
IMAGE_COLUMN = "image"
PATH_COLUMN = "image_path"
"""VLMEvalKit's, of images that lie beside the file; not read."""

_REQUIRED = ("index", "question", "A", "B", "answer", IMAGE_COLUMN)
_DEFAULTS = {"category": "all", "l2-category": "all", "split": "ALL"}
"""The category of a row where the file lacks the column."""
_MAX_CELL_CHARS = 2**28  # a quote that is never closed would read the rest of the file into a cell
_MAX_REFERENCE_CHARS = 64  # as in VLMEvalKit
_BETWEEN = re.compile(r"(?<!;base64)(?<!; base64),", re.IGNORECASE)
_MAX_ASPECT = 200  # Qwen2.5-VL's own limit; lines of text are longer than most photos


@dataclass(frozen=True, slots=True)
class Question:
    """One question with up to nine options.

    Attributes:
        question: Its text.
        options: Texts of A, B, ...; an empty one is a letter without an option.
        answer: Letter of the right option, empty where it is hidden.
        category: Subtask.
        l2_category: Meta-task.
        hint: What may help, or empty.
    """

    question: str
    options: tuple[str, ...]
    answer: str
    category: str
    l2_category: str
    hint: str = ""

    @property
    def lettered(self) -> dict[str, str]:
        """The options that there are, by letter."""
        return {x: text for x, text in zip(LETTERS, self.options, strict=False) if text}


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question about images, as one row of a file.

    Attributes:
        index: Its number in the file, unique.
        question: What is asked.
        image: The cell of its images, still encoded; empty for a question of text alone.
        split: "VAL", say.
        where: File and line that it was read from.
    """

    index: int
    question: Question
    image: str
    split: str
    where: str = ""


def encode_image(image: Image.Image) -> str:
    """Return the cell of one image: PNG in base64."""
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_images(row: QuestionRow) -> list[Image.Image]:
    """Decode a row's images to upright RGB, in their order.

    Raises:
        UnreadableImage: There is none, or one is no base64 or no picture; the message names file,
            line and column.
    """
    place = f"{row.where}, column {IMAGE_COLUMN!r}"
    cells = _split_list(row.image.strip())
    return [open_base64(cell, place, _MAX_ASPECT) for cell in cells]


def _split_list(cell: str) -> list[str]:
    """Split a Python list of base64 texts, which hold no quotes, and of commas a data: URL's."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return [cell]
    return [part.strip().strip("'\"") for part in _BETWEEN.split(cell[1:-1])]


def write_tsv(path: Path, rows: Iterable[QuestionRow]) -> None:
    """Write rows, with as many option columns as the widest row needs, and at least four."""
    rows = list(rows)
    letters = LETTERS[: max([4, *(len(row.question.options) for row in rows)])]
    columns = ["index", "question", "hint", *letters, "answer", *_DEFAULTS, IMAGE_COLUMN]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, dialect="excel-tab", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            q = row.question
            writer.writerow(
                {
                    "index": row.index,
                    "question": q.question,
                    "hint": q.hint,
                    **q.lettered,
                    "answer": q.answer,
                    "category": q.category,
                    "l2-category": q.l2_category,
                    "split": row.split,
                    "image": row.image,
                }
            )


def refuse(error: UsageError) -> None:
    """Raise what is wrong with a row."""
    raise error


def read_tsv(
    path: Path,
    *,
    hidden_answers: bool = False,
    text_only: bool = False,
    limit: int | None = None,
    note: Callable[[UsageError], None] = refuse,
) -> Iterator[QuestionRow]:
    """Read rows one by one; images stay encoded, and come with each row that refers to them.

    Args:
        path: The file.
        hidden_answers: Take rows without an answer too.
        text_only: The file has no images.
        limit: Rows to read, from the first on; all if not given.
        note: Told what is wrong with a row, which is then passed over; raises it if not given.

    Raises:
        UsageError: A column is missing or a cell is wrong; the message names file, line and column.
    """
    required = _REQUIRED[:-1] if text_only else _REQUIRED
    seen: set[int] = set()
    shared = functools.cache(lambda: _shared_images(path))  # read where a row refers to one
    for found, where in read_cells(path, required, limit=limit, note=note):
        cells = _DEFAULTS | found
        image = cells.get(IMAGE_COLUMN, "")
        faults = [*_faults(cells, hidden_answers, text_only), *_repeated(cells["index"], seen)]
        if _is_reference(image) and not text_only:
            faults += _reference_faults(image, shared())
        if faults:
            note(UsageError(f"{where}, {'; '.join(faults)}"))
        else:
            yield _row(cells, shared()[int(image)] if _is_reference(image) else image, where)


def read_cells(
    path: Path,
    required: tuple[str, ...],
    *,
    limit: int | None = None,
    note: Callable[[UsageError], None] = refuse,
    separated_by: Literal["tab", "comma"] = "tab",
) -> Iterator[tuple[dict[str, str], str]]:
    """Read the cells of each row by column, with the file and line for messages.

    Args:
        path: A file with column names in its first line.
        required: Columns that must be there.
        limit: Rows to read, from the first on; all if not given.
        note: Told of a row with too few or too many cells; raises it if not given.
        separated_by: What stands between the cells.

    Raises:
        UsageError: The file cannot be read, or columns are missing.
    """
    csv.field_size_limit(_MAX_CELL_CHARS)  # csv's default of 128 KiB is less than a photo
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            dialect = {"tab": "excel-tab", "comma": "excel"}[separated_by]
            reader = csv.DictReader(file, dialect=dialect, strict=True)
            columns = reader.fieldnames or ()
            missing = [column for column in required if column not in columns]
            if missing:
                text = _missing_text(missing, required, PATH_COLUMN in columns)
                raise UsageError(f"{path}, line 1: {text}")
            for cells in itertools.islice(reader, limit):
                line = reader.line_num
                where = f"{path}, line {line}"
                if None in cells or None in cells.values():
                    note(UsageError(f"{where}: the number of cells differs from the first line's"))
                    continue
                yield {str(column): str(value) for column, value in cells.items()}, where
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}, after line {line}: no {separated_by}-separated text in UTF-8 ({error}): is "
            "the file complete?"
        ) from error


def _shared_images(path: Path) -> dict[int, str]:
    """Return the image cells of the rows that other rows refer to, by index."""

    def read() -> Iterator[tuple[str, str]]:
        cells_by_row = read_cells(path, ("index", IMAGE_COLUMN), note=lambda _: None)
        return ((cells["index"], cells[IMAGE_COLUMN]) for cells, _ in cells_by_row)

    wanted = {int(image) for _, image in read() if _is_reference(image)}
    return {int(i): image for i, image in read() if _is_index(i) and int(i) in wanted}


def _is_reference(image: str) -> bool:
    return len(image) <= _MAX_REFERENCE_CHARS and _is_index(image.strip())


def _reference_faults(image: str, shared: Mapping[int, str]) -> Iterator[str]:
    """Say that the row that an image cell refers to is missing or has no image of its own."""
    found = shared.get(int(image))
    if found is None or _is_reference(found):
        why = "no row has it" if found is None else f"that row refers to {found.strip()}"
        yield (
            f"column {IMAGE_COLUMN!r}: {image.strip()!r} found, expected base64 or the index of a "
            f"row that holds an image itself ({why})"
        )


def _missing_text(missing: list[str], required: tuple[str, ...], has_paths: bool) -> str:
    names = ", ".join(map(repr, missing))
    what = f"column {names} is" if len(missing) == 1 else f"columns {names} are"
    text = f"{what} missing: expected tab-separated columns {', '.join(required)}"
    if IMAGE_COLUMN in missing and has_paths:
        text += (
            f". Images of column {PATH_COLUMN!r} are not read: write each image file, in base64, "
            f"into a column {IMAGE_COLUMN!r}"
        )
    return text


def _faults(cells: dict[str, str], hidden_answers: bool, text_only: bool) -> Iterator[str]:
    """Say which cells of a row are wrong, what they hold and what is expected."""

    def wrong(column: str, right: str) -> str:
        found = _shown(cells.get(column, ""))
        return f"column {column!r}: {found} found, expected {right}"

    if text_only and cells.get(IMAGE_COLUMN):
        yield (
            f"column {IMAGE_COLUMN!r}: an image found, expected a file of questions of text alone"
        )
    for column in ("question", *_DEFAULTS):
        if not cells[column].strip():
            yield wrong(column, f"the {column}'s text")
    if not _is_index(cells["index"]):
        yield wrong("index", "a whole number")
    letters = [letter for letter in LETTERS if cells.get(letter, "").strip()]
    if len(letters) < 2:
        yield wrong("A" if "A" not in letters else "B", "a text: there are two options or more")
    elif cells["answer"] not in letters and (cells["answer"] or not hidden_answers):
        yield wrong("answer", f"one of {', '.join(letters)}")


def _repeated(index: str, seen: set[int]) -> Iterator[str]:
    """Say that an index stands in an earlier row; note that it stands in this one."""
    if _is_index(index):
        if int(index) in seen:
            yield (
                f"column 'index': {int(index)} stands in an earlier row too, expected a different "
                "number in each row"
            )
        seen.add(int(index))


def _is_index(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal()


def _row(cells: dict[str, str], image: str, where: str) -> QuestionRow:
    texts = [text if (text := cells.get(letter, "")).strip() else "" for letter in LETTERS]
    num_options = max(i for i, text in enumerate(texts, start=1) if text)
    question = Question(
        question=cells["question"],
        options=tuple(texts[:num_options]),
        answer=cells["answer"],
        category=cells["category"],
        l2_category=cells["l2-category"],
        hint=cells.get("hint", ""),
    )
    return QuestionRow(int(cells["index"]), question, image, cells["split"], where)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
