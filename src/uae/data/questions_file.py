"""Multiple-choice questions about images as TSV files, in MMT-Bench's columns.

    index  question  [hint]  A  B  [C ... I]  answer  [category]  [l2-category]  [split]  image

One row is a question (`category` is its subtask, `l2-category` its meta-task); without one of these
columns all rows are of one category or split. Questions of text alone have no `image`, which holds
base64, or, where several images are kept apart, a list of it: ['/9j/...', 'iVBOR...']
(open-compass/VLMEvalKit `vlmeval/dataset/image_base.py`). Rows are read one by one, with their
images still encoded, so a file of any size needs the memory of its largest row.

VLMEvalKit reads with pandas, which takes an option such as "None" or "NA" for an empty cell and
drops it; here it is a text like any other.
"""

import base64
import binascii
import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from uae.data.opening import read_image
from uae.data.untrusted.file import Reason, UnreadableImage
from uae.errors import UsageError

LETTERS = "ABCDEFGHI"
IMAGE_COLUMN = "image"

_REQUIRED = ("index", "question", "A", "B", "answer", IMAGE_COLUMN)
_DEFAULTS = {"category": "all", "l2-category": "all", "split": "ALL"}
"""What a row is of where the file lacks the column."""
_MAX_CELL_CHARS = 2**28  # a quote that is never closed would read the rest of the file into a cell
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
    place = Path(f"{row.where}, column {IMAGE_COLUMN!r}")
    cells = _split_list(row.image.strip())
    if not all(cells):
        raise UnreadableImage(place, Reason.EMPTY_FILE, "an image in base64 is expected")
    images = []
    for cell in cells:
        try:
            data = base64.b64decode(cell, validate=True)
        except (binascii.Error, ValueError):
            raise UnreadableImage(place, Reason.DAMAGED, f"{_shown(cell)} is no base64") from None
        images.append(read_image(io.BytesIO(data), place, _MAX_ASPECT))
    return images


def _split_list(cell: str) -> list[str]:
    """Split a Python list of base64 texts, which hold neither commas nor quotes."""
    if not (cell.startswith("[") and cell.endswith("]")):
        return [cell]
    return [part.strip().strip("'\"") for part in cell[1:-1].split(",")]


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
    """Read rows one by one; images stay encoded.

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
    for found, where in read_cells(path, required, limit=limit, note=note):
        cells = _DEFAULTS | found
        faults = [*_faults(cells, hidden_answers, text_only), *_repeated(cells["index"], seen)]
        if faults:
            note(UsageError(f"{where}, {'; '.join(faults)}"))
        else:
            yield _row(cells, where)


def read_cells(
    path: Path,
    required: tuple[str, ...],
    *,
    limit: int | None = None,
    note: Callable[[UsageError], None] = refuse,
) -> Iterator[tuple[dict[str, str], str]]:
    """Read the cells of each row by column, with the file and line for messages.

    Args:
        path: A tab-separated file with column names in its first line.
        required: Columns that must be there.
        limit: Rows to read, from the first on; all if not given.
        note: Told of a row with too few or too many cells; raises it if not given.

    Raises:
        UsageError: The file cannot be read, or columns are missing.
    """
    csv.field_size_limit(_MAX_CELL_CHARS)  # csv's default of 128 KiB is less than a photo
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, dialect="excel-tab", strict=True)
            missing = [c for c in required if c not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{path}, line 1: {_missing_text(missing, required)}")
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
            f"{path}, after line {line}: no tab-separated text in UTF-8 ({error}): is the file "
            "complete?"
        ) from error


def _missing_text(missing: list[str], required: tuple[str, ...]) -> str:
    names = ", ".join(map(repr, missing))
    what = f"column {names} is" if len(missing) == 1 else f"columns {names} are"
    return f"{what} missing: expected tab-separated columns {', '.join(required)}"


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


def _row(cells: dict[str, str], where: str) -> QuestionRow:
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
    image = cells.get(IMAGE_COLUMN, "")
    return QuestionRow(int(cells["index"]), question, image, cells["split"], where)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
