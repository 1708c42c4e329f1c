"""GenEval++ as a benchmark run: one row per image, judged right or wrong as a whole.

- of a tag: share of its images that are right; overall: the unweighted mean over tags

The official judge is gpt-4.1; with any other the benchmark has another name. A reply that holds no
verdict is excluded and counted, which upstream counts as wrong.
"""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from uae.backends.judge import Judge, JudgeFailed, JudgeStamp
from uae.benchmarks.drawing import Picture
from uae.benchmarks.geneval_pp.judging import MAX_TOKENS, SYSTEM, question_of, read_verdict
from uae.benchmarks.geneval_pp.prompts import NUM_PROMPTS, Prompt, image_path
from uae.benchmarks.judged.images import ImageSet
from uae.benchmarks.judged.run import Rows, Work, failed_row, judged_settings, run_works
from uae.benchmarks.prompt_set import PromptSet
from uae.benchmarks.results.notes import part_option
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.run import Resume
from uae.benchmarks.results.scores import Score
from uae.core.provenance import BenchSettings
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

OFFICIAL, OTHER = "geneval-pp", "geneval-pp-other-judge"
OFFICIAL_JUDGE = "gpt-4.1"
RULES = "uae-geneval-pp-1"
"""Of the judge's prompt and how replies are read; a change of them needs another name."""
OVERALL = Score(name="overall", sample="correct", mean_over="tag")


@dataclass(frozen=True, slots=True)
class Task:
    """What is scored, and by whom."""

    prompts: PromptSet[Prompt]
    images: ImageSet
    judge: Judge


def benchmark_of(judge: JudgeStamp) -> str:
    """Name the benchmark by its judge: numbers of two judges are never compared."""
    # a dated version is the same model: gpt-4.1-2025-04-14, unlike gpt-4.1-mini
    is_official = judge.name == OFFICIAL_JUDGE or judge.name.startswith(f"{OFFICIAL_JUDGE}-20")
    return OFFICIAL if judge.kind == "endpoint" and is_official else OTHER


def pictures_of(root: Path, prompts: PromptSet[Prompt]) -> list[Picture]:
    """List the files that the prompts are drawn to."""
    return [
        Picture(image_path(root, name), prompt.text, (("geneval-pp", name),))
        for name, prompt in prompts.by_name.items()
    ]


def settings_of(task: Task) -> BenchSettings:
    """Return what the numbers of a run depend on."""
    stamp = task.judge.stamp
    return judged_settings(
        benchmark_of(stamp),
        RULES,
        task.images,
        stamp,
        task.prompts,
        options={
            "num_prompts": len(task.prompts.prompts),
            **part_option(len(task.prompts.prompts), NUM_PROMPTS, "prompts"),
            "max_tokens": MAX_TOKENS,
        },
    )


def score(
    task: Task,
    out: Path,
    *,
    resume: Resume = "auto",
    retry_failed: bool = False,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> BenchResult:
    """Ask what has no row in the folder yet, and score all; raises as `run_works`."""
    works = [
        Work(
            name,
            partial(_row, task, name, prompt),
            is_asked=True,
            group=name,
            image=task.images.paths[name],
        )
        for name, prompt in task.prompts.by_name.items()
        if name in task.images.paths
    ]
    return run_works(
        works,
        out,
        settings_of(task),
        partial(tag_scores, {prompt.tag for prompt in task.prompts.prompts}),
        resume=resume,
        retry_failed=retry_failed,
        show=show,
    )


def tag_scores(tags: Set[str], rows: Sequence[ItemRow]) -> list[Score]:
    """Return the mean over tags, left out where one has no image, and the accuracy of each."""
    of_tags = [Score(name=tag, sample="correct", where={"tag": tag}) for tag in sorted(tags)]
    return [OVERALL, *of_tags] if tags == {row.labels["tag"] for row in rows} else of_tags


def _row(task: Task, name: str, prompt: Prompt, _: Rows) -> ItemRow:
    row = ItemRow(item=name, labels={"tag": prompt.tag}, details={"prompt": prompt.text})
    try:
        image = open_image(task.images.paths[name])
        reply = task.judge.reply(image, SYSTEM, question_of(prompt), MAX_TOKENS)
    except (UnreadableImage, JudgeFailed) as error:
        return failed_row(row, error)
    row = replace(row, details={**row.details, "reply": reply})
    verdict = read_verdict(reply)
    if verdict is None:
        no_verdict = JudgeFailed("judge: no verdict", "no JSON object with correct 0 or 1")
        return failed_row(row, no_verdict)
    return replace(
        row,
        samples={"correct": float(verdict.is_correct)},
        details={**row.details, "reason": verdict.reason},
    )
