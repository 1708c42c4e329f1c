"""Captions that are there already, by the name of their image: our own files and other tools'.

NAME.jsonl           as `uae caption` writes it; `datasets` metadata.jsonl, of which `file_name` and
                     `text` are read; or {"id": "0", "caption": ...}, whose id is the image's name
                     without suffix (AIFrontierLab/TorchUMM@7cdd9d5
                     `eval/generation/unified_bench/run_generation.py`)
NAME.csv, .parquet   the same columns
NAME.json            kohya's metadata: {image: {"caption": ..., "tags": ...}}
NAME.xlsx, NAME.tsv  predictions of VLMEvalKit for MMGenBench (arXiv 2411.14062), with the columns
                     `index`, which is the image's name, and `prediction`
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from uae.core.errors import EnvironmentFault, UsageError
from uae.core.journal import read_journal
from uae.core.unicode import check_text
from uae.data.image_names import Row
from uae.data.questions import read_cells

PREDICTION = "prediction"
COLUMNS = ("index", PREDICTION)
NAME_KEYS = ("file_name", "image", "id")
CAPTION_KEYS = ("caption", "text")
"""Keys of names and captions; the first that a row has is read."""

_SUFFIX = "_file_name"  # of columns of `datasets` with names that are not called `file_name`

Values = Iterator[tuple[str, object]]
"""Rows, each with its place, for messages, and its values by key."""


def read_table(path: Path) -> list[Row]:
    """Read the rows of a file, in their order; captions lose the blanks at their ends.

    Raises:
        UsageError: The file is wrong, or a caption is no Unicode; the message says where.
        EnvironmentFault: The package that reads it is not installed.
    """
    readers = {
        ".xlsx": _of_xlsx,
        ".tsv": _of_tsv,
        ".csv": _of_csv,
        ".parquet": _of_parquet,
        ".json": _of_json,
    }
    read = readers.get(path.suffix.lower(), _of_json_lines)
    return [_row(where, values) for where, values in read(path)]


def read_given_captions(path: Path) -> list[Row]:
    """Read a file of one caption an image.

    Raises:
        UsageError: As `read_table`, a row has no caption, or an image has two.
        EnvironmentFault: The package that reads it is not installed.
    """
    rows: dict[str, Row] = {}
    for row in read_table(path):
        check_has_caption(row)
        if row.name in rows:
            raise UsageError(f"{path} has two captions for {row.name!r}: expected one")
        rows[row.name] = row
    return list(rows.values())


def check_has_caption(row: Row) -> None:
    """Refuse a row without the key of a caption.

    Raises:
        UsageError: Names file, line and key.
    """
    if row.caption is None:
        keys = " or ".join(map(repr, CAPTION_KEYS))
        raise UsageError(f"{row.where}: key {keys} is missing beside {row.name!r}")


def need_openpyxl(path: Path) -> None:
    """Refuse a .xlsx that cannot be read or written here.

    Raises:
        EnvironmentFault: The package is not installed.
    """
    if importlib.util.find_spec("openpyxl") is None:
        raise EnvironmentFault(f'{path} needs the package openpyxl: pip install "uae[xlsx]"')


def _row(where: str, values: object) -> Row:
    if not isinstance(values, Mapping):
        raise UsageError(f"{where}: expected an object with image and caption")
    several = [key for key in values if str(key).endswith(_SUFFIX)]
    name_keys = [key for key in NAME_KEYS if key in values] or several[: len(several) == 1]
    captions = [values[key] for key in CAPTION_KEYS if key in values]
    if not (name_keys or captions):
        return Row("", None, where)
    if not name_keys:
        found = ", ".join(map(str, values)) or "no keys"
        raise UsageError(
            f"{where}: key {' or '.join(map(repr, NAME_KEYS))} is missing; found {found}"
        )
    name = values[name_keys[0]]
    for key, value, kinds in (
        (name_keys[0], name, (str, int)),
        ("caption", *(captions[:1] or [None]), (str, type(None))),
    ):
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise UsageError(f"{where}: key {key!r} is {value!r:.60}: expected text")
    caption = (captions[0] or "").strip() if captions else None
    if not str(name).strip():
        raise UsageError(f"{where}: a caption has no image: expected a name beside {caption!r}")
    check_text(caption, f"{where}: key 'caption'")
    return Row(str(name), caption, where)


def _of_json_lines(path: Path) -> Values:
    return iter(read_journal(path, lambda values, where: (where, values)))


def _of_tsv(path: Path) -> Values:
    for cells, where in read_cells(path, COLUMNS):
        yield where, {"image": cells[COLUMNS[0]], "caption": cells[PREDICTION]}


def _of_csv(path: Path) -> Values:
    for cells, where in read_cells(path, (), separated_by="comma"):
        yield where, cells


def _of_json(path: Path) -> Values:
    """Yield the images of kohya's metadata; tags follow the caption, as they do in its training."""
    try:
        by_name = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON file in UTF-8: {error}") from error
    for name, values in by_name.items() if isinstance(by_name, dict) else ():
        if isinstance(values, dict):
            where = f"{path}, key {name!r}"
            texts = [values[key] for key in ("caption", "tags") if key in values]
            if not all(isinstance(text, str) for text in texts):
                raise UsageError(f"{where}: 'caption' or 'tags' is no text")
            joined = {"caption": ", ".join(filter(None, texts))} if texts else {}
            yield where, {"image": name, **joined}


def _of_parquet(path: Path) -> Values:
    """Yield the rows of names and captions; other columns, pictures say, are not loaded."""
    if importlib.util.find_spec("pyarrow") is None:
        raise EnvironmentFault(f"{path} needs the package pyarrow: pip install pyarrow")
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    known = (*NAME_KEYS, *CAPTION_KEYS)
    try:
        with ParquetFile(path) as file:
            columns = [x for x in file.schema_arrow.names if x in known or x.endswith(_SUFFIX)]
            rows = file.read(columns=columns).to_pylist()
    except ArrowException as error:
        raise UsageError(f"{path} is no Parquet file: {error}") from error
    for number, values in enumerate(rows, start=1):
        yield f"{path}, row {number}", values


def _of_xlsx(path: Path) -> Values:
    """Yield the first sheet's predictions by index; an empty cell is an empty caption."""
    need_openpyxl(path)
    from zipfile import BadZipFile

    from openpyxl import load_workbook

    try:
        book = load_workbook(path, read_only=True)
    except (BadZipFile, KeyError, ValueError) as error:
        raise UsageError(f"{path} is no .xlsx file: {error}") from error
    rows = book.worksheets[0].iter_rows(values_only=True)
    names = list(next(rows, ()))
    missing = [column for column in COLUMNS if column not in names]
    if missing:
        found = ", ".join(map(str, names)) or "none"
        raise UsageError(f"{path}: columns {' and '.join(missing)} are missing; found {found}")
    places = [names.index(column) for column in COLUMNS]
    for number, row in enumerate(rows, start=2):
        name, caption = ("" if row[place] is None else str(row[place]) for place in places)
        yield f"{path}, row {number}", {"image": name, "caption": caption}
    book.close()
