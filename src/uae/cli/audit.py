"""`uae eval audit`: a trained pair against the pair it began as, on any images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from uae.backends.ours import check_named
from uae.cli.inputs import find_images
from uae.cli.options import RunChoice, ended, progress_of, stages_of
from uae.cli.output import PLAINLY, SWITCH, Talk
from uae.cli.startup import quick_start
from uae.cli.unified_bench import backbones_of
from uae.core.errors import UsageError

if TYPE_CHECKING:
    from uae.benchmarks.mmt_bench.task import MmtTask
    from uae.benchmarks.pair_audit.questions import QuestionSet
    from uae.benchmarks.pair_audit.run import AuditTask
    from uae.benchmarks.unified_bench.pair import Pair
    from uae.runs.rows import ItemRow

NEXT = {"audit": "uae eval unified-bench IMAGES --model MODEL --out RUN"}
"""What the help names as the next command."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainedChoice:
    """The trained model, and the one it began as."""

    model: str
    """Model after training: folder, or ID@REVISION on the hub."""
    before: str = "uae-tiny"
    """Folder, preset or ID@REVISION that the training began with."""
    seed: NonNegativeInt = 0
    """Seed of the noise; captions are the most probable words."""
    batch_size: PositiveInt = 16
    """Images at once; changes speed and memory alone."""

    def check(self) -> None:
        """Refuse models that are not there."""
        check_named("--before", self.before)
        check_named("--model", self.model)

    def read(self, place: RunChoice) -> "dict[str, Pair]":
        """Return both by side, not loaded yet."""
        import torch

        from uae.backends.reference import Given
        from uae.benchmarks.unified_bench.pair import Pair

        given = Given("", self.seed, place.device, torch.float32, place.out)
        before = Pair.read(given, self.before, flag="--before")
        return {"before": before, "after": Pair.read(given, self.model)}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AuditQuestions:
    """What the encoders are asked."""

    questions: Path | None = None
    """MMT-Bench's .tsv, or any file in its columns: is general understanding kept?"""
    text_questions: Path | None = None
    """A .tsv in its columns without images: are text skills kept?"""
    prompt: Literal["vlmevalkit", "compact"] = "vlmevalkit"
    """Wording of the questions; compact is what uae-tiny was trained on."""
    allow_missing: Annotated[bool, SWITCH] = False
    """Leave out images and questions that do not open; the result is marked."""

    def read(self) -> "dict[str, MmtTask]":
        """Read all of them, by kind."""
        from uae.benchmarks.mmt_bench.benchmark import MmtOptions
        from uae.benchmarks.mmt_bench.task import MmtTask
        from uae.benchmarks.pair_audit.questions import TEXT_SKILLS, UNDERSTANDING

        pictured = MmtOptions(prompt=self.prompt, allow_missing=self.allow_missing)
        text_only = MmtOptions(prompt=self.prompt, text_only=True)
        given = {
            UNDERSTANDING: (self.questions, pictured),
            TEXT_SKILLS: (self.text_questions, text_only),
        }
        return {k: MmtTask.read(path, config) for k, (path, config) in given.items() if path}


NO_QUESTIONS = AuditQuestions()


def audit(
    images: Annotated[list[Path], Parameter(name="IMAGE")],
    /,
    *,
    compared: TrainedChoice,
    place: RunChoice,
    reward: Annotated[tuple[str, ...], Parameter(negative="")] = ("clip",),
    backbone: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    asked: AuditQuestions = NO_QUESTIONS,
    talk: Talk = PLAINLY,
) -> int:
    """Audit a trained model against the one it began as: swap matrix, captions, pictures.

    Try:
        uae eval audit IMAGES --model runs/demo/model --before uae-tiny --out runs/audit

    The same command goes on where it stopped.

    Args:
        images: Image files or folders that neither model was trained on.
        compared: The trained model, and the one it began as.
        place: The run.
        reward: Backbones that were the reward; the others are held out.
        backbone: As for unified-bench; by default those that the trained model names.
        asked: What the encoders are asked.
        talk: Format and verbosity.
    """
    talk.begin()
    place.check()
    compared.check()
    given = backbones_of(backbone)
    files = find_images(images, without=place.out)
    questions = asked.read()
    with quick_start():
        from uae.backends.backbones import digests
        from uae.benchmarks.pair_audit import run
        from uae.benchmarks.pair_audit.findings import summary_text

        pairs = compared.read(place)
        chosen = given or backbones_of(pairs["after"].backbones)
        if unknown := [name for name in reward if name not in chosen]:
            raise UsageError(f"--reward {unknown[0]}: expected one of {', '.join(chosen)}")
        task = _task(pairs, files.paths, place.out, chosen, reward, compared.batch_size)
        settings = run.settings_of(
            task,
            {side: pair.stamp() for side, pair in pairs.items()},
            digests(chosen, place.device),
            {kind: file.digest for kind, file in questions.items()},
            _options(asked, questions, files.paths),
        )
    progress, show = stages_of(talk)
    sets = _question_sets(questions, pairs, place.out, talk)
    result, audits = run.audit_pair(
        task, settings, list(chosen), resume=place.resume, questions=sets, show=show
    )
    progress.close()
    return ended(result, place.out, summary_text(result, audits), talk, files.left_out)


def _task(
    pairs: "Mapping[str, Pair]",
    images: Mapping[str, Path],
    out: Path,
    chosen: dict[str, str],
    reward: tuple[str, ...],
    batch_size: int,
) -> "AuditTask":
    from uae.benchmarks.pair_audit.run import AuditTask

    limits = {side: pair.writes.settings().max_caption_tokens for side, pair in pairs.items()}
    return AuditTask(
        own={
            side: pair.task(images, out, chosen, pair.tokens(None, is_needed=True), batch_size)
            for side, pair in pairs.items()
        },
        max_caption_tokens=limits,
        reward=reward,
        out=out,
    )


def _options(
    asked: AuditQuestions, questions: "Mapping[str, MmtTask]", images: Mapping[str, Path]
) -> dict[str, object]:
    """Return how the questions are asked, and which of them and of the images are missing."""
    from uae.cli.coverage import image_gaps, settled

    gaps = {**image_gaps(images)}
    for file in questions.values():
        gaps |= file.gaps
    prompt = {"prompt": asked.prompt} if questions else {}
    return {**prompt, **settled(gaps, len(images), allow_missing=asked.allow_missing)}


def _question_sets(
    questions: "Mapping[str, MmtTask]", pairs: "Mapping[str, Pair]", out: Path, talk: Talk
) -> "list[QuestionSet]":
    from uae.benchmarks.pair_audit.questions import TEXT_SKILLS, UNDERSTANDING, QuestionSet

    folders = {UNDERSTANDING: "questions", TEXT_SKILLS: "text_questions"}
    return [
        QuestionSet(
            kind, file.items, partial(_answers, kind, file, pairs, out / folders[kind], talk)
        )
        for kind, file in questions.items()
    ]


def _answers(
    kind: str, file: "MmtTask", pairs: "Mapping[str, Pair]", out: Path, talk: Talk
) -> "dict[str, list[ItemRow]]":
    """Ask both encoders the same questions; return their rows by side."""
    from uae.backends.load import answers_of, answers_stamp
    from uae.benchmarks.mmt_bench.evaluate import plan_of
    from uae.benchmarks.run import run_plan
    from uae.runs.rows import ITEMS, read_rows

    answers = {}
    for side, pair in pairs.items():
        model, folder = (pair.writes, pair.given), out / side
        progress, show = progress_of(f"{kind}, {side}", "question", talk)
        plan = plan_of(answers_of(*model), file, folder, answers_stamp(*model))
        run_plan(plan, folder, show=show)
        progress.close()
        answers[side] = read_rows(out / side / ITEMS)
    return answers
