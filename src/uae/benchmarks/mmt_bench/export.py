"""Replies of a run in the formats of other kits: VLMEvalKit's predictions, lmms-eval's samples.

VLMEvalKit's file has the TSV's columns without images, and `prediction`, so its own scorer can run
on our replies: `--judge exact_matching` for no judge and no chance. It looks for .xlsx unless its
PRED_FORMAT says tsv (open-compass/VLMEvalKit@e8e78f0 `vlmeval/smp/file.py`).

lmms-eval's samples are what its `--log_samples` writes, one question a line; the verdict is by our
rules, as its own takes a letter at random where a reply names none
(EvolvingLMMs-Lab/lmms-eval@75571cf `lmms_eval/loggers/evaluation_tracker.py`,
`lmms_eval/tasks/mmt/utils.py`).
"""

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uae.benchmarks.answers import API_FAILURE
from uae.benchmarks.mmt_bench.prompt import PROMPTS, PromptName
from uae.benchmarks.mmt_bench.task import BENCHMARK
from uae.benchmarks.results.result import read_result
from uae.core.durable import replace_file, storage_faults
from uae.core.errors import UsageError
from uae.core.identity import file_digest
from uae.data.given_captions import PREDICTION, need_openpyxl
from uae.data.questions import IMAGE_COLUMN, LETTERS, Question, read_cells
from uae.runs.rows import ITEMS, ItemRow, read_rows

FORMATS = (".tsv", ".xlsx", ".jsonl")

_MAX_XLSX_CHARS = 32_767  # of a cell, by the format


def check_format(out: Path) -> None:
    """Refuse a name that cannot be written."""
    if out.suffix not in FORMATS:
        expected = ", ".join(FORMATS)
        raise UsageError(f"--predictions {out}: expected a name that ends in {expected}")
    if out.suffix == ".xlsx":
        need_openpyxl(out)


def export_predictions(folder: Path, tsv: Path, out: Path) -> int:
    """Write the replies of a finished run; return how many of its items have none.

    To VLMEvalKit an item without a reply gets its text for a failed request, which it counts as
    wrong; our own score leaves it out, and so do lmms-eval's samples.

    Args:
        folder: Run folder.
        tsv: The file that was evaluated.
        out: NAME.xlsx or NAME.tsv for VLMEvalKit, which expects {model}_{data}.xlsx, or NAME.jsonl
            for lmms-eval's samples; replaced if it is there.

    Raises:
        UsageError: The run is not finished, of another benchmark or file, or a text is too long.
    """
    check_format(out)
    settings = read_result(folder).settings
    if settings["benchmark"] != BENCHMARK:
        raise UsageError(f"{folder} is a run of {settings['benchmark']}, not of {BENCHMARK}")
    if settings["data"]["tsv"] != file_digest(tsv):
        raise UsageError(f"{folder} is a run on another file than {tsv}: their sha256 differ")
    rows = read_rows(folder / ITEMS)
    if out.suffix == ".jsonl":
        data = _lmms_samples(rows, settings["options"]["prompt"])
    else:
        replies = {int(row.item): row.details.get("reply", f"{API_FAILURE}.") for row in rows}
        predicted = _predicted(tsv, replies)
        data = _xlsx(predicted) if out.suffix == ".xlsx" else _tsv(predicted)
    with storage_faults("cannot write", out):
        replace_file(out, data)
    return sum("reply" not in row.details for row in rows)


def _predicted(tsv: Path, replies: dict[int, str]) -> Iterator[dict[str, str]]:
    """Yield the rows that were asked, by column; a run with a limit has the first rows alone."""
    for cells, _ in read_cells(tsv, ("index", IMAGE_COLUMN)):
        del cells[IMAGE_COLUMN]
        index = int(cells["index"])
        if index in replies:
            yield cells | {PREDICTION: replies[index]}


def _tsv(rows: Iterator[dict[str, str]]) -> bytes:
    text = io.StringIO()
    first = next(rows)  # a finished run has one
    writer = csv.DictWriter(text, list(first), dialect="excel-tab", lineterminator="\n")
    writer.writeheader()
    writer.writerows(itertools.chain([first], rows))
    return text.getvalue().encode()


def _xlsx(rows: Iterator[dict[str, str]]) -> bytes:
    """Return one sheet: `index` is a number, all else text, even what begins like a formula."""
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    held = [
        {name: int(text) if name == "index" else _held(text, row) for name, text in row.items()}
        for row in rows
    ]
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(list(held[0]))
    for row in held:
        cells = [WriteOnlyCell(sheet, value) for value in row.values()]
        for cell in cells:
            if isinstance(cell.value, str):
                cell.data_type = "s"  # and no formula
        sheet.append(cells)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def _held(text: str, row: dict[str, str]) -> str | None:
    """Return a text as .xlsx can hold it; None, an empty cell, for none."""
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    if len(text) > _MAX_XLSX_CHARS:
        raise UsageError(
            f"index {row['index']} has a text of {len(text)} characters, more than the "
            f"{_MAX_XLSX_CHARS} of a cell: expected --predictions with a name that ends in .tsv"
        )
    return ILLEGAL_CHARACTERS_RE.sub(lambda x: " " if x[0].isspace() else "\ufffd", text) or None


def _lmms_samples(rows: Sequence[ItemRow], prompt: PromptName) -> bytes:
    """Return the samples of the rows that have a reply; their places are the samples' `doc_id`."""
    samples = [
        {"doc_id": place, **_sample(row, prompt)}
        for place, row in enumerate(rows)
        if "reply" in row.details
    ]
    return "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples).encode()


def _sample(row: ItemRow, prompt: PromptName) -> dict[str, Any]:
    said, meta = row.details, row.labels["meta_task"]
    options = tuple(said["options"].get(letter, "") for letter in LETTERS)
    question = Question(
        said["question"], options, said["answer"], row.labels["subtask"], meta, said["hint"]
    )
    hidden = not said["answer"] and said["letter"] is not None
    sample = {
        "target": said["answer"],
        "filtered_resps": [said["reply"]],
        "input": PROMPTS[prompt](question),
        "submission": {row.item: said["letter"]} if hidden else {},
    }
    if "answer" in row.samples:
        verdict = float(row.samples["answer"])
        sample["accuracy"] = {"overall": verdict, meta: verdict}
    return sample
