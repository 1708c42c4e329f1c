"""GenEval++ as a benchmark run: one row per image, judged right or wrong as a whole.

- of a tag: share of its images that are right; overall: the unweighted mean over tags

The official judge is gpt-4.1; with any other the benchmark has another name. A reply that holds no
verdict is excluded and counted, which upstream counts as wrong. The words of the judge's prompt are
ours: upstream's asks for the same, a checklist and a natural single image, in other sentences, so
verdicts may differ from its own even by the same judge.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import partial

from uae.backends.failure import BackendFailed
from uae.backends.judge import JudgeStamp
from uae.backends.replies import json_objects
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.geneval_pp.prompts import NUM_PROMPTS, Clause, Prompt
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
MAX_TOKENS = 200
SYSTEM = (
    "You check whether a picture fulfils an order. Look at the picture alone, go through the list "
    "point by point, and be strict: a wrong number, colour, place or size of one thing fails the "
    "whole picture. It also fails if it is a collage or several pictures, or if it looks unnatural "
    "or pasted together instead of like one coherent photograph. Reply with one JSON object and "
    'nothing else: {"correct": 1 or 0, "reason": "at most 30 words"}.'
)

_PLACES = {
    "left": "on the left",
    "right": "on the right",
    "above": "above the other objects",
    "below": "below the other objects",
}


class Task(JudgedTask[Prompt]):
    """What is scored, and by whom."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an image fulfils its prompt, and why the judge thinks so."""

    is_correct: bool
    reason: str


def benchmark_of(judge: JudgeStamp) -> str:
    """Name the benchmark by its judge: numbers of two judges are never compared."""
    # a dated version is the same model: gpt-4.1-2025-04-14, unlike gpt-4.1-mini
    is_official = judge.name == OFFICIAL_JUDGE or judge.name.startswith(f"{OFFICIAL_JUDGE}-20")
    return OFFICIAL if judge.kind == "endpoint" and is_official else OTHER


def plan_of(task: Task) -> Plan:
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
    except (UnreadableImage, BackendFailed) as error:
        return failed_row(row, error)
    details, verdict = {**row.details, "reply": reply}, read_verdict(reply)
    if verdict is None:
        no_verdict = BackendFailed("judge: no verdict", "no JSON object with correct 0 or 1")
        return failed_row(replace(row, details=details), no_verdict)
    details["reason"] = verdict.reason
    return replace(row, samples={"correct": float(verdict.is_correct)}, details=details)


def question_of(prompt: Prompt) -> str:
    points = [f"shows exactly {_thing(clause)}" for clause in prompt.include]
    points += [f"does not show {_thing(clause)} or more" for clause in prompt.exclude]
    numbered = "\n".join(f"{number}. {point}" for number, point in enumerate(points, start=1))
    return f"Order: {prompt.text}\nThe picture is correct if it\n{numbered}"


def _thing(clause: Clause) -> str:
    """Say a clause in words, e.g. "2 red fork, on the left"."""
    color = f"{clause.color} " if clause.color else ""
    words = [f"{clause.count} {color}{clause.class_name}"]
    words += [_PLACES[clause.region]] if clause.region else []
    words += [f"{clause.size} than the other objects"] if clause.size else []
    return ", ".join(words)


def read_verdict(reply: str) -> Verdict | None:
    """Read the first JSON object of a reply that is a verdict; None if there is none."""
    for values in json_objects(reply):
        correct = values.get("correct")
        if correct in (0, 1):  # true and false are equal to these
            return Verdict(bool(correct), str(values.get("reason", "")))
    return None
