"""Captions that somebody else wrote, by image: our own files, and those of two other tools.

NAME.jsonl           as `uae caption` writes it; or {"id": "0", "caption": ...}, whose id is the
                     image's name without suffix (AIFrontierLab/TorchUMM@7cdd9d5
                     `eval/generation/unified_bench/run_generation.py`)
NAME.xlsx, NAME.tsv  predictions of VLMEvalKit for MMGenBench (arXiv 2411.14062), with the columns
                     `index`, which is the image's name, and `prediction`
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from uae.data.captions_file import read_rows
from uae.data.questions_file import read_cells
from uae.errors import EnvironmentFault, UsageError

PREDICTION = "prediction"
COLUMNS = ("index", PREDICTION)


def read_given_captions(path: Path) -> dict[str, str]:
    """Return captions by the name of their image, with or without its suffix.

    Raises:
        UsageError: The file is wrong, or has two captions for one image; the message says where.
        EnvironmentFault: It is .xlsx, and the package that reads it is not installed.
    """
    captions: dict[str, str] = {}
    for name, caption in _named(path):
        if not name:
            raise UsageError(f"{path}: a caption has no image: expected a name beside {caption!r}")
        if name in captions:
            raise UsageError(f"{path} has two captions for {name!r}: expected one")
        captions[name] = caption.strip()
    return captions


def need_openpyxl(path: Path) -> None:
    """Refuse a .xlsx that cannot be read or written here.

    Raises:
        EnvironmentFault: The package is not installed.
    """
    if importlib.util.find_spec("openpyxl") is None:
        raise EnvironmentFault(f'{path} needs the package openpyxl: pip install "uae[xlsx]"')


def _named(path: Path) -> Iterator[tuple[str, str]]:
    if path.suffix == ".xlsx":
        yield from _of_xlsx(path)
    elif path.suffix == ".tsv":
        for cells, _ in read_cells(path, COLUMNS):
            yield cells[COLUMNS[0]], cells[COLUMNS[1]]
    else:
        yield from ((row.image, row.caption) for row in read_rows(path, by_id=True))


def _of_xlsx(path: Path) -> Iterator[tuple[str, str]]:
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
    for row in rows:
        name, caption = ("" if row[place] is None else str(row[place]) for place in places)
        yield name, caption
    book.close()
