"""Replies of a run as VLMEvalKit's prediction file: the TSV's columns without images, `prediction`.

So its own scorer can run on our replies: `--judge exact_matching` for no judge and no chance.
"""

import csv
import io
from pathlib import Path

from uae.data.questions_file import IMAGE_COLUMN, read_cells
from uae.durable import replace_file, storage_faults
from uae.errors import UsageError
from uae.eval.answers import API_FAILURE
from uae.eval.mmt_bench.evaluate import BENCHMARK
from uae.eval.results.result import read_result
from uae.eval.results.rows import ITEMS, read_rows
from uae.eval.results.stamp import file_digest

PREDICTION = "prediction"


def export_predictions(folder: Path, tsv: Path, out: Path) -> int:
    """Write the replies of a finished run; return how many of its items have none.

    An item without a reply gets VLMEvalKit's text for a failed request, which it counts as wrong;
    our own score leaves it out.

    Args:
        folder: Run folder.
        tsv: The file that was evaluated.
        out: NAME.tsv, replaced if it is there. VLMEvalKit expects {model}_{data}.tsv.

    Raises:
        UsageError: The run is not finished, is of another benchmark or of another file, or `out`
            is no TSV.
        EnvironmentFault: `out` cannot be written.
    """
    if out.suffix != ".tsv":
        raise UsageError(f"{out}: expected a name that ends in .tsv")
    settings = read_result(folder).settings
    if settings["benchmark"] != BENCHMARK:
        raise UsageError(f"{folder} is a run of {settings['benchmark']}, not of {BENCHMARK}")
    if settings["data"]["tsv"] != file_digest(tsv):
        raise UsageError(f"{folder} is a run on another file than {tsv}: their sha256 differ")
    rows, _ = read_rows(folder / ITEMS)
    replies = {int(row.item): row.details.get("reply", f"{API_FAILURE}.") for row in rows}
    with storage_faults("cannot write", out):
        _write(tsv, out, replies)
    return sum("reply" not in row.details for row in rows)


def _write(tsv: Path, out: Path, replies: dict[int, str]) -> None:
    text = io.StringIO()
    writer: csv.DictWriter | None = None
    for cells, _ in read_cells(tsv, ("index", IMAGE_COLUMN)):
        del cells[IMAGE_COLUMN]
        if writer is None:
            columns = [*cells, PREDICTION]
            writer = csv.DictWriter(text, columns, dialect="excel-tab", lineterminator="\n")
            writer.writeheader()
        index = int(cells["index"])
        if index in replies:  # a run with a limit has the first rows alone
            writer.writerow(cells | {PREDICTION: replies[index]})
    replace_file(out, text.getvalue().encode())
