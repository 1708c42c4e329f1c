"""MMT-Bench as the command line offers it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from uae.benchmarks.benchmark import SWITCH, Asked, Means, Plan

_PREDICTIONS = Parameter(
    help="Write the replies to this file too: .xlsx or .tsv in VLMEvalKit's columns, .jsonl as "
    "lmms-eval's samples."
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MmtOptions:
    """Which questions are asked, and how."""

    limit: PositiveInt | None = None
    """Questions to ask, from the first row on; by default all."""
    prompt: Literal["vlmevalkit", "compact"] = "vlmevalkit"
    """Wording of the questions; compact is what uae-tiny was trained on."""
    likelihood: bool = True
    """Measure the likelihood of the option letters too."""
    hidden_answers: Annotated[bool, SWITCH] = False
    """Ask questions without an answer too (split TEST); replies are kept."""
    allow_missing: Annotated[bool, SWITCH] = False
    """Leave out questions whose images do not decode; the result is marked as incomplete."""
    predictions: Annotated[Path | None, _PREDICTIONS] = None
    text_only: Annotated[bool, Parameter(parse=False)] = False
    """Of a file without images, whose questions are chats of text alone: another benchmark."""


class MmtBench:
    """Ask a model the questions of MMT-Bench, and score the answers.

    Try:
        uae eval mmt-bench MMT-Bench_VAL.tsv --model runs/demo/model --out runs/mmt
        uae eval mmt-bench MMT-Bench_VAL.tsv --model vlm:Qwen/Qwen2.5-VL-3B-Instruct --out runs/qwen

    The same command goes on where it stopped.
    """

    given = Parameter(name="TSV", help="MMT-Bench_VAL.tsv, or any file in its columns.")
    options = MmtOptions
    unit = "question"
    asked: Asked = "model"
    images = None

    def plan(self, given: Path, options: MmtOptions, means: Means) -> Plan:
        from uae.benchmarks.mmt_bench.export import check_format
        from uae.benchmarks.mmt_bench.task import MmtTask

        if options.predictions:
            check_format(options.predictions)
        task = MmtTask.read(given, options)
        load, stamp = means.model()
        from uae.benchmarks.mmt_bench.evaluate import plan_of

        return plan_of(load, task, means.out, stamp)
