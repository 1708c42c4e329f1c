"""GenEval++ as a benchmark run: one row per image, judged right or wrong as a whole.

- of a tag: share of its images that are right; overall: the unweighted mean over tags

The official judge is gpt-4.1; with any other the benchmark has another name. A reply that holds no
verdict is excluded and counted, which upstream counts as wrong.
"""

from collections.abc import Sequence, Set
from dataclasses import replace
from functools import partial

from uae.backends.judge import JudgeFailed, JudgeStamp
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.geneval_pp.judging import MAX_TOKENS, SYSTEM, question_of, read_verdict
from uae.benchmarks.geneval_pp.prompts import NUM_PROMPTS, Prompt
from uae.benchmarks.judged.rows import JudgedTask, Rows, failed_row
from uae.benchmarks.results.scores import Score
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

OFFICIAL, OTHER = "geneval-pp", "geneval-pp-other-judge"
OFFICIAL_JUDGE = "gpt-4.1"
RULES = "uae-geneval-pp-1"
"""Of the judge's prompt and how replies are read; a change of them needs another name."""
OVERALL = Score(name="overall", sample="correct", mean_over="tag")


class Task(JudgedTask[Prompt]):
    """What is scored, and by whom."""


def benchmark_of(judge: JudgeStamp) -> str:
    """Name the benchmark by its judge: numbers of two judges are never compared."""
    # a dated version is the same model: gpt-4.1-2025-04-14, unlike gpt-4.1-mini
    is_official = judge.name == OFFICIAL_JUDGE or judge.name.startswith(f"{OFFICIAL_JUDGE}-20")
    return OFFICIAL if judge.kind == "endpoint" and is_official else OTHER


def plan_of(task: Task) -> Plan:
    """Plan the run over a task."""
    images = task.images.paths
    works = [
        Work(item=name, make=partial(_row, task, name, prompt), image=images[name])
        for name, prompt in task.prompts.by_name.items()
        if name in images
    ]
    scores = partial(tag_scores, {prompt.tag for prompt in task.prompts.prompts})
    benchmark, options = benchmark_of(task.judge.stamp), {"max_tokens": MAX_TOKENS}
    return task.plan(benchmark, RULES, NUM_PROMPTS, works, scores, options)


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
