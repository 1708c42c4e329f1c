"""`uae eval mmt-bench`, `uae eval geneval`: published benchmarks without a judge."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from uae.commands.runs import Resume, check_run, ended, progress_of
from uae.commands.startup import quick_start
from uae.commands.talk import PLAINLY, SWITCH, Talk
from uae.commands.unified_bench import Dtype
from uae.errors import EXIT_PARTIAL, UsageError
from uae.ranks import once

if TYPE_CHECKING:
    from uae.commands.halves import Spec
    from uae.eval.geneval.prompts import PromptSet

log = logging.getLogger(__name__)

Variant = Literal["geneval", "geneval-hf"]

OFFICIAL_CLIP = "openai/clip-vit-large-patch14"
NEXT = {
    "mmt-bench": "uae compare RUN_A RUN_B",
    "geneval": "uae compare RUN_A RUN_B",
}
"""What the help of each names as the next command."""


def mmt_bench(
    tsv: Annotated[Path, Parameter(name="TSV")],
    /,
    *,
    model: str = "uae-tiny",
    out: Path,
    limit: PositiveInt | None = None,
    prompt: Literal["vlmevalkit", "compact"] = "vlmevalkit",
    likelihood: bool = True,
    hidden_answers: Annotated[bool, SWITCH] = False,
    predictions: Path | None = None,
    max_new_tokens: PositiveInt = 128,
    dtype: Dtype = "float32",
    allow_missing: Annotated[bool, SWITCH] = False,
    resume: Resume = "auto",
    retry_failed: Annotated[bool, SWITCH] = False,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Ask a model the questions of MMT-Bench, and score the answers.

    Try:
        uae eval mmt-bench MMT-Bench_VAL.tsv --model runs/demo/model --out runs/mmt
        uae eval mmt-bench MMT-Bench_VAL.tsv --model vlm:Qwen/Qwen2.5-VL-3B-Instruct --out runs/qwen

    The same command goes on where it stopped.

    Args:
        tsv: MMT-Bench_VAL.tsv, or any file in its columns.
        model: Model folder or preset, or vlm:FOLDER_OR_HUB_ID, endpoint:MODEL@URL.
        out: Folder of the run: settings, one row per question, scores.
        limit: Questions to ask, from the first row on; by default all.
        prompt: Wording of the questions; compact is what uae-tiny was trained on.
        likelihood: Measure the likelihood of the option letters too.
        hidden_answers: Ask questions without an answer too (split TEST); replies are kept.
        predictions: Write the replies to this .xlsx or .tsv too, in VLMEvalKit's columns.
        max_new_tokens: Longest reply; what is cut off is not read.
        dtype: Of a vlm model's weights.
        allow_missing: Leave out questions whose images do not decode; the result is marked as
            incomplete.
        resume: must refuses a folder without a run, never one with a run.
        retry_failed: Ask again where the model gave no reply.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_run(out, resume)
    from uae.eval.mmt_bench.export import check_format, export_predictions
    from uae.eval.mmt_bench.task import MmtConfig, MmtTask

    if predictions:
        check_format(predictions)
    config = MmtConfig(
        limit=limit,
        prompt=prompt,
        likelihood=likelihood,
        hidden_answers=hidden_answers,
        allow_missing=allow_missing,
    )
    with quick_start():
        import torch

        from uae.commands import halves, mcq_models
        from uae.eval.mmt_bench.evaluate import evaluate_mmt
        from uae.eval.mmt_bench.summary import summary_text

        spec = halves.Spec.read_model("--model", model, mcq_models.MODELS)
        _check_dtype(spec, dtype)
        given = halves.Given("", 0, device, getattr(torch, dtype))
        load = mcq_models.answers_of(spec, given, max_new_tokens)
    task = MmtTask.read(tsv, config)
    stamp = mcq_models.answers_stamp(spec, given, max_new_tokens)
    progress, show = progress_of("mmt-bench", "question", talk)
    result = evaluate_mmt(
        load, task, out, stamp, resume=resume, retry_failed=retry_failed, show=show
    )
    progress.close()
    if predictions:
        once(lambda: export_predictions(out, tsv, predictions))
    return ended(result, out, summary_text(result), talk)


def geneval(
    images: Annotated[Path, Parameter(name="IMAGES")],
    /,
    *,
    detector: str,
    variant: Variant,
    out: Path,
    clip: str = OFFICIAL_CLIP,
    prompts: Path | None = None,
    num_samples: PositiveInt = 4,
    allow_incomplete: Annotated[bool, SWITCH] = False,
    resume: Resume = "auto",
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Score a folder of images in GenEval's layout with a detector.

    Try:
        uae eval geneval IMAGES --detector mask2former.pth --variant geneval --out runs/geneval

    The same command goes on where it stopped. Besides the run's own files the
    folder gets results.jsonl in the official format, and summary.json.

    Args:
        images: Folder with 00000/metadata.jsonl, 00000/samples/0000.png and so on.
        detector: For geneval mmdet's .pth file; for geneval-hf a folder or hub id of a Mask2Former.
        variant: Which weights the detector has; scores of the two are never compared.
        out: Folder of the run: settings, one row per image, scores.
        clip: Folder or hub id of the CLIP that names colours.
        prompts: The prompts' metadata file; by default the 553 official ones.
        num_samples: Images expected of each prompt.
        allow_incomplete: Score what is there; the result is marked as incomplete.
        resume: must refuses a folder without a run, never one with a run.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_run(out, resume)
    _check_detector(detector, variant)
    chosen = _prompts(prompts)
    from uae.eval.geneval.layout import read_folder

    folder = read_folder(images, chosen, num_samples, allow_incomplete=allow_incomplete)
    with quick_start():
        from uae.commands.judges import load_judges
        from uae.eval.geneval import run

        judges = load_judges(detector, variant, clip, device)
    task = run.Task(folder, chosen, num_samples, judges)
    progress, show = progress_of("geneval", "image", talk)
    result, official = run.score(task, out, resume, show)
    progress.close()
    code = ended(result, out, official.text(), talk)
    if not official.is_complete:
        log.warning("the set of images is incomplete: this is no GenEval score")
        return EXIT_PARTIAL
    return code


def _check_dtype(spec: "Spec", dtype: Dtype) -> None:
    if dtype != "float32" and spec.kind != "vlm":
        raise UsageError(
            f"--dtype {dtype} is for vlm models: expected none with --model {spec.shown}"
        )


def _check_detector(detector: str, variant: Variant) -> None:
    is_checkpoint = Path(detector).suffix == ".pth"
    if variant == "geneval" and not is_checkpoint:
        raise UsageError(
            f"--detector {detector}: --variant geneval takes mmdet's checkpoint, a .pth file; a "
            "model in transformers' format is --variant geneval-hf"
        )
    if variant == "geneval" and not Path(detector).is_file():
        raise UsageError(f"--detector {detector} does not exist: expected mmdet's .pth file")
    if variant == "geneval-hf" and is_checkpoint:
        raise UsageError(f"--detector {detector}: a .pth file is --variant geneval")


def _prompts(path: Path | None) -> "PromptSet":
    from uae.eval.geneval.prompts import official_prompts, read_prompts

    return read_prompts(path) if path else official_prompts()
