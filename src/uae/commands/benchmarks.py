"""`uae eval mmt-bench`, `uae eval geneval`, `uae eval geneval-images`: published benchmarks."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.commands.inputs import MAX_LISTED
from uae.commands.startup import quick_start
from uae.commands.talk import PLAINLY, SWITCH, Talk, json_line, write
from uae.errors import EXIT_DONE, EXIT_PARTIAL, UsageError

if TYPE_CHECKING:
    from uae.eval.geneval.prompts import PromptSet
    from uae.eval.results.result import BenchResult
    from uae.train.progress import Progress

log = logging.getLogger(__name__)

Resume = Literal["auto", "must", "never"]
Variant = Literal["geneval", "geneval-hf"]

OFFICIAL_CLIP = "openai/clip-vit-large-patch14"
NEXT = {
    "mmt-bench": "uae compare RUN_A RUN_B",
    "geneval": "uae compare RUN_A RUN_B",
    "geneval-images": "uae eval geneval IMAGES --detector DETECTOR --variant geneval --out DIR",
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
    resume: Resume = "auto",
    retry_failed: Annotated[bool, SWITCH] = False,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Ask a model's encoder the questions of MMT-Bench, and score the answers.

    Try:
        uae eval mmt-bench MMT-Bench_VAL.tsv --model runs/demo/model --out runs/mmt

    The same command goes on where it stopped.

    Args:
        tsv: MMT-Bench_VAL.tsv, or any file in its columns.
        model: Model folder, or a preset; adapters are merged into the weights.
        out: Folder of the run: settings, one row per question, scores.
        limit: Questions to ask, from the first row on; by default all.
        prompt: Wording of the questions; compact is what uae-tiny was trained on.
        likelihood: Measure the likelihood of the option letters too.
        hidden_answers: Ask questions without an answer too (split TEST); replies are kept.
        predictions: Write the replies to this .tsv too, in VLMEvalKit's columns.
        max_new_tokens: Longest reply; what is cut off is not read.
        resume: must refuses a folder without a run, never one with a run.
        retry_failed: Ask again where the model gave no reply.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    _check_folder(out, "--out")
    from uae.eval.mmt_bench.evaluate import MmtConfig, check_tsv

    _check_predictions(predictions)
    config = MmtConfig(
        limit=limit, prompt=prompt, likelihood=likelihood, hidden_answers=hidden_answers
    )
    check_tsv(tsv, config)
    with quick_start():
        from uae.commands import loop
        from uae.eval.mmt_bench.encoder_answers import EncoderAnswers
        from uae.eval.mmt_bench.evaluate import evaluate_mmt
        from uae.eval.mmt_bench.export import export_predictions
        from uae.eval.mmt_bench.summary import summary_text
        from uae.models.settings import resolve

        answers = EncoderAnswers(loop.load(model, device).encoder, max_new_tokens)
    stamp = answers.stamp(model, Path(resolve(model)))
    progress, show = _progress("mmt-bench", "question", talk)
    result = evaluate_mmt(
        answers, tsv, out, stamp, config, resume=resume, retry_failed=retry_failed, show=show
    )
    progress.close()
    if predictions:
        export_predictions(out, tsv, predictions)
    return _ended(result, out, summary_text(result), talk)


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
    _check_folder(out, "--out")
    _check_detector(detector, variant)
    chosen = _prompts(prompts)
    from uae.eval.geneval.layout import read_folder

    folder = read_folder(images, chosen, num_samples, allow_incomplete=allow_incomplete)
    with quick_start():
        from uae.commands.judges import load_judges
        from uae.eval.geneval import run

        judges = load_judges(detector, variant, clip, device)
    task = run.Task(folder, chosen, num_samples, judges)
    progress, show = _progress("geneval", "image", talk)
    result, official = run.score(task, out, resume, show)
    progress.close()
    code = _ended(result, out, official.text(), talk)
    if not official.is_complete:
        log.warning("the set of images is incomplete: this is no GenEval score")
        return EXIT_PARTIAL
    return code


def geneval_images(
    *,
    model: str = "uae-tiny",
    out: Path,
    prompts: Path | None = None,
    num_samples: PositiveInt = 4,
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Draw GenEval's prompts into its folder layout, for this scorer or the official one.

    Try:
        uae eval geneval-images --model runs/demo/model --out runs/geneval-images

    The same command goes on where it stopped: samples that are there are kept.

    Args:
        model: Model folder, or a preset; its own sampling settings are used.
        out: Folder for the images.
        prompts: The prompts' metadata file; by default the 553 official ones.
        num_samples: Images of each prompt.
        seed: Seed of the starting noise.
        batch_size: Images at once; changes speed and memory alone.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    _check_folder(out, "--out")
    chosen = _prompts(prompts)
    with quick_start():
        from uae.commands import loop
        from uae.eval.geneval import drawing

        origin = drawing.origin_of(model, seed, chosen)
        drawing.check_origin(out, origin)
        auto_encoder = loop.load(model, device)
    drawing.begin(out, origin, chosen)
    todo = drawing.missing_samples(out, chosen, num_samples)
    total = len(chosen.lines) * num_samples
    progress, show = _progress("drawing", "image", talk)
    show(total - len(todo), total)
    for drawn in drawing.draw_samples(auto_encoder, out, chosen, todo, seed, batch_size):
        show(total - len(todo) + drawn, total)
    progress.close()
    values = {"images": str(out), "prompts": chosen.name, "prompts_sha256": chosen.sha256}
    counts = {"num_drawn": len(todo), "num_kept": total - len(todo)}
    plain = str(out)
    if talk.chosen != "quiet":
        lines = [f"images  {out}", f"drawn   {len(todo)}, {total - len(todo)} kept"]
        after = NEXT["geneval-images"].replace("IMAGES", str(out))
        plain = "\n".join([*lines, f"next    {after}"])
    talk.result(plain, values | counts | {"model": model, "seed": seed})
    return EXIT_DONE


def _check_folder(folder: Path, flag: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{flag} {folder} is a file: expected a folder")


def _check_predictions(path: Path | None) -> None:
    if path and path.suffix != ".tsv":
        raise UsageError(f"--predictions {path}: expected a name that ends in .tsv")


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


def _progress(stage: str, unit: str, talk: Talk) -> tuple["Progress", Callable[[int, int], None]]:
    from uae.train.progress import Progress

    progress = Progress(terminal=False if talk.chosen == "quiet" else None)
    return progress, lambda done, total: progress.show(stage, done, total, unit=unit)


def _ended(result: "BenchResult", out: Path, text: str, talk: Talk) -> int:
    """Write the scores, list what was left out on stderr, and return the exit code."""
    from uae.eval.results.result import result_values

    if talk.for_reader == "json":
        write(json_line(result_values(result)))
    elif talk.for_reader == "quiet":
        for x in result.scores:
            write(f"{x.score.name} {x.estimate.value}")
    else:
        write(f"{text}\n\nrun   {out}\nnext  uae compare OTHER {out}")
    if not result.num_excluded:
        return EXIT_DONE
    lines = [
        f"  {item}: {exclusion.reason}" + (f": {detail}" if detail else "")
        for exclusion in result.excluded
        for item, detail in exclusion.items.items()
    ]
    more = [f"  ... and {len(lines) - MAX_LISTED} more"] if len(lines) > MAX_LISTED else []
    total = f"left out {result.num_excluded} of {result.num_items}; they count in no score"
    log.warning("\n".join([total, *lines[:MAX_LISTED], *more]))
    return EXIT_PARTIAL
