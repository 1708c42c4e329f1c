"""`uae eval audit`: a trained pair against the pair it began as, on any images."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.commands.inputs import find_images
from uae.commands.runs import Resume, check_run, ended, progress_of, stages_of
from uae.commands.startup import quick_start
from uae.commands.talk import PLAINLY, SWITCH, Talk
from uae.commands.unified_bench import backbones_of
from uae.errors import UsageError

if TYPE_CHECKING:
    from uae.commands.halves import Pair
    from uae.eval.mmt_bench.prompt import PromptName
    from uae.eval.mmt_bench.task import MmtTask
    from uae.eval.results.rows import ItemRow

NEXT = {"audit": "uae eval unified-bench IMAGES --model MODEL --out RUN"}
"""What the help names as the next command."""


def audit(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    model: str,
    before: str = "uae-tiny",
    out: Path,
    reward: Annotated[tuple[str, ...], Parameter(negative="")] = ("clip",),
    backbone: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    questions: Path | None = None,
    text_questions: Path | None = None,
    prompt: Literal["vlmevalkit", "compact"] = "vlmevalkit",
    seed: NonNegativeInt = 0,
    batch_size: PositiveInt = 16,
    allow_missing: Annotated[bool, SWITCH] = False,
    resume: Resume = "auto",
    device: str = "auto",
    talk: Talk = PLAINLY,
) -> int:
    """Audit a trained model against the one it began as: swap matrix, captions, pictures.

    Try:
        uae eval audit IMAGES --model runs/demo/model --before uae-tiny --out runs/audit

    The same command goes on where it stopped.

    Args:
        images: Image files or folders that neither model was trained on.
        model: Model folder after training.
        before: Model folder or preset that the training began with.
        out: Folder of the run: captions, redraws, one row per image, scores, audits.json.
        reward: Backbones that were the reward; the others are held out.
        backbone: As for unified-bench; by default those that the trained model names.
        questions: MMT-Bench's .tsv, or any file in its columns: is general understanding kept?
        text_questions: A .tsv in its columns without images: are text skills kept?
        prompt: Wording of the questions; compact is what uae-tiny was trained on.
        seed: Seed of the noise; captions are the most probable words.
        batch_size: Images at once; changes speed and memory alone.
        allow_missing: Leave out questions whose images do not decode; the result is marked as
            incomplete.
        resume: must refuses a folder without a run, never one with a run.
        device: auto, cpu, cuda or cuda:1.
        talk: Format and verbosity.
    """
    talk.begin()
    check_run(out, resume)
    files = find_images(images, without=out)
    checked = _checked(questions, text_questions, prompt, allow_missing)
    with quick_start():
        import torch

        from uae.commands import halves
        from uae.eval.pair_audit import run
        from uae.eval.pair_audit.questions import QuestionSet
        from uae.eval.pair_audit.summary import settings_of, summary_text
        from uae.eval.results.stamp import file_digest

        given = halves.Given("", seed, device, torch.float32)
        pairs = {
            side: halves.Pair.read(name, None, None, given, sees_image=False)
            for side, name in (("before", before), ("after", model))
        }
        own = {side: pair.writes.settings() for side, pair in pairs.items()}
        chosen = backbones_of(backbone or halves.own_backbones(pairs["after"]))
        _check_reward(reward, chosen)
        tokens = {
            side: halves.tokens_of(pair, None, is_needed=True) for side, pair in pairs.items()
        }
        task = run.AuditTask(
            own={
                side: pair.task(files.paths, out, chosen, tokens[side], batch_size)
                for side, pair in pairs.items()
            },
            max_caption_tokens={side: s.max_caption_tokens for side, s in own.items()},
            reward=reward,
            out=out,
        )
        stamps = {side: pair.stamp() for side, pair in pairs.items()}
        asked = [
            QuestionSet(file.kind, file.task.items, partial(_answers, pairs, file, out, talk))
            for file in checked
        ]
        files_asked = {file.kind: file_digest(file.task.tsv) for file in checked}
        options: dict[str, object] = {"prompt": prompt} if checked else {}
        for file in checked:
            options |= file.task.gaps
        settings = settings_of(
            task, stamps, halves.digests(chosen, device), run.RULES, files_asked, options
        )
    progress, show = stages_of(talk)
    result, audits = run.audit_pair(
        task, settings, list(chosen), resume=resume, questions=asked, show=show
    )
    progress.close()
    return ended(result, out, summary_text(result, audits), talk, files.left_out)


def _check_reward(reward: tuple[str, ...], chosen: dict[str, str]) -> None:
    unknown = [name for name in reward if name not in chosen]
    if unknown:
        raise UsageError(f"--reward {unknown[0]}: expected one of {', '.join(chosen)}")


@dataclass(frozen=True, kw_only=True)
class _QuestionFile:
    """Questions of one kind, read and checked."""

    kind: str
    folder: str
    task: "MmtTask"


def _checked(
    questions: Path | None,
    text_questions: Path | None,
    prompt: "PromptName",
    allow_missing: bool,
) -> list[_QuestionFile]:
    """Read all questions before anything is loaded."""
    from uae.eval.mmt_bench.task import MmtConfig, MmtTask
    from uae.eval.pair_audit.questions import TEXT_SKILLS, UNDERSTANDING

    pictured = MmtConfig(prompt=prompt, allow_missing=allow_missing)
    given = (
        (UNDERSTANDING, questions, "questions", pictured),
        (TEXT_SKILLS, text_questions, "text_questions", MmtConfig(prompt=prompt, text_only=True)),
    )
    return [
        _QuestionFile(kind=kind, folder=folder, task=MmtTask.read(path, config))
        for kind, path, folder, config in given
        if path
    ]


def _answers(
    pairs: "dict[str, Pair]", file: _QuestionFile, out: Path, talk: Talk
) -> "dict[str, list[ItemRow]]":
    """Ask both encoders the same questions; return their rows by side."""
    from uae.commands.mcq_models import answers_of, answers_stamp
    from uae.eval.mmt_bench.evaluate import evaluate_mmt
    from uae.eval.results.rows import ITEMS, read_rows

    answers = {}
    for side, pair in pairs.items():
        asked, folder = (pair.writes, pair.given), out / file.folder / side
        progress, show = progress_of(f"{file.kind}, {side}", "question", talk)
        evaluate_mmt(answers_of(*asked), file.task, folder, answers_stamp(*asked), show=show)
        progress.close()
        answers[side] = read_rows(folder / ITEMS)[0]
    return answers
