"""`uae eval mmt-bench`: questions with options that a model answers."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from uae.backends.ours import check_named
from uae.cli.address import BY_DEFAULT, AddressChoice
from uae.cli.options import RunChoice, ended, progress_of
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.cli.startup import quick_start
from uae.cli.unified_bench import Dtype
from uae.core.ranks import once

if TYPE_CHECKING:
    from uae.backends.reference import Given, Spec

NEXT = {
    "mmt-bench": "uae compare RUN_A RUN_B",
}
"""What the help of each names as the next command."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class QuestionChoice:
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


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AnswererChoice:
    """What answers."""

    model: str = "uae-tiny"
    """Model folder or preset, or vlm:FOLDER_OR_HUB_ID, endpoint:MODEL@URL."""
    max_new_tokens: PositiveInt = 128
    """Longest reply; what is cut off is not read."""
    dtype: Dtype = "float32"
    """Of a vlm model's weights."""
    address: AddressChoice = BY_DEFAULT
    """How an address is asked."""

    def read(self, place: RunChoice) -> "tuple[Spec, Given]":
        """Return what is named, and what it is loaded with.

        Raises:
            UsageError: It names nothing, or the dtype is for other models.
        """
        import torch

        from uae.backends.load import kinds
        from uae.backends.reference import Given, Spec, check_dtype
        from uae.backends.roles import Chat

        spec = Spec.read_model("--model", self.model, kinds(Chat))
        check_dtype(self.dtype, spec)
        dtype = getattr(torch, self.dtype)
        return spec, Given("", 0, place.device, dtype, place.out, self.address.config)


ALL_QUESTIONS, UAE_TINY = QuestionChoice(), AnswererChoice()


def mmt_bench(
    tsv: Annotated[Path, Parameter(name="TSV")],
    /,
    *,
    answerer: AnswererChoice = UAE_TINY,
    asked: QuestionChoice = ALL_QUESTIONS,
    predictions: Path | None = None,
    place: RunChoice,
    retry_failed: Annotated[bool, SWITCH] = False,
    talk: Talk = PLAINLY,
) -> int:
    """Ask a model the questions of MMT-Bench, and score the answers.

    Try:
        uae eval mmt-bench MMT-Bench_VAL.tsv --model runs/demo/model --out runs/mmt
        uae eval mmt-bench MMT-Bench_VAL.tsv --model vlm:Qwen/Qwen2.5-VL-3B-Instruct --out runs/qwen

    The same command goes on where it stopped.

    Args:
        tsv: MMT-Bench_VAL.tsv, or any file in its columns.
        answerer: What answers.
        asked: Which questions are asked, and how.
        predictions: Write the replies to this file too: .xlsx or .tsv in VLMEvalKit's columns,
            .jsonl as lmms-eval's samples.
        place: The run.
        retry_failed: Ask again where the model gave no reply.
        talk: Format and verbosity.
    """
    talk.begin()
    place.check()
    from uae.benchmarks.mmt_bench.export import check_format, export_predictions
    from uae.benchmarks.mmt_bench.task import MmtConfig, MmtTask

    if predictions:
        check_format(predictions)
    check_named("--model", answerer.model)
    task = MmtTask.read(tsv, MmtConfig(**asdict(asked)))
    with quick_start():
        from uae.backends.load import answers_of, answers_stamp
        from uae.benchmarks.mmt_bench.evaluate import evaluate_mmt
        from uae.benchmarks.mmt_bench.summary import summary_text

        spec, given = answerer.read(place)
        load = answers_of(spec, given, answerer.max_new_tokens)
    stamp = answers_stamp(spec, given, answerer.max_new_tokens)
    progress, show = progress_of("mmt-bench", "question", talk)
    result = evaluate_mmt(
        load, task, place.out, stamp, resume=place.resume, retry_failed=retry_failed, show=show
    )
    progress.close()
    if predictions:
        once(lambda: export_predictions(place.out, tsv, predictions))
    return ended(result, place.out, summary_text(result), talk)
