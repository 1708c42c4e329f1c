"""GenEval 2 as a benchmark run, scored by Soft-TIFA: rows for each question and each image.

- of a question: the probability that the judge's answer begins as the right one does; a reply that
  begins as no answer at all is excluded and counted, which upstream scores as 0
- AM of an image: their mean; GM: their geometric mean, which one 0 makes 0
- AM and GM: means over images; of a skill: AM over its questions; of an atom count: GM over its
  images

The rules of facebookresearch/GenEval2@a6e82d2, but for raw logits where upstream takes scores that
the judge's generation config may have changed. The official judge is Qwen3-VL-8B-Instruct; with any
other the benchmark has another name.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from uae.backends.failure import BackendFailed
from uae.backends.judge import JudgeStamp, check_answered
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.geneval2.prompts import NUM_PROMPTS, SKILLS, Atom, Prompt
from uae.benchmarks.judged.rows import JudgedTask, Rows, failed_row, unscored
from uae.benchmarks.results.scores import Score
from uae.data.opening import open_image
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

OFFICIAL, OTHER = "geneval2", "geneval2-other-judge"
OFFICIAL_JUDGE = "Qwen/Qwen3-VL-8B-Instruct"
RULES = "uae-geneval2-2"

IMAGE, QUESTION = "image", "question"
"""What a row is of, as the label `of`."""


class Task(JudgedTask[Prompt]):
    """What is scored, and by whom."""


def benchmark_of(judge: JudgeStamp) -> str:
    """Name the benchmark by its judge: numbers of two judges are never compared."""
    is_official = judge.kind == "local" and judge.name == OFFICIAL_JUDGE
    return OFFICIAL if is_official else OTHER


def plan_of(task: Task) -> Plan:
    prompts = {x: task.prompts.by_name[x] for x in task.prompts.by_name if x in task.images.paths}
    works = [work for name, prompt in prompts.items() for work in _works(task, name, prompt)]
    benchmark = benchmark_of(task.judge.stamp)
    return task.plan(benchmark, RULES, NUM_PROMPTS, works, soft_tifa_scores, {})


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of numbers from 0 on; one 0 makes it 0."""
    if min(values) == 0:
        return 0.0
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def soft_tifa_scores(rows: Sequence[ItemRow]) -> list[Score]:
    """Return AM and GM over images, AM of each skill and GM of each atom count that rows have."""
    skills = {row.labels.get("skill") for row in rows}
    counts = {row.labels["atom_count"] for row in rows if "atom_count" in row.labels}
    parts = [("AM", "am", {"of": IMAGE}), ("GM", "gm", {"of": IMAGE})]
    parts += [
        (f"AM/skill/{skill}", "p", {"of": QUESTION, "skill": skill})
        for skill in SKILLS
        if skill in skills
    ]
    parts += [
        (f"GM/atoms/{count}", "gm", {"of": IMAGE, "atom_count": count})
        for count in sorted(counts, key=int)
    ]
    return [
        Score(name=name, sample=sample, where=where, is_share=True) for name, sample, where in parts
    ]


def _works(task: Task, name: str, prompt: Prompt) -> list[Work]:
    work = partial(Work, group=name, image=task.images.paths[name])
    questions = [
        work(item=f"{name}/{i}", make=partial(_question_row, task, name, i, atom))
        for i, atom in enumerate(prompt.atoms)
    ]
    return [*questions, work(item=name, make=partial(_image_row, name, prompt), is_asked=False)]


def _question_row(task: Task, name: str, question_id: int, atom: Atom, _: Rows) -> ItemRow:
    prompt = task.prompts.by_name[name].text
    row = ItemRow(
        item=f"{name}/{question_id}",
        labels={"of": QUESTION, "skill": atom.skill},
        cluster=name,
        details={"prompt": prompt, "question": atom.question, "answer": atom.answer},
    )
    try:
        image = open_image(task.images.paths[name])
        asked = f"{atom.question} Answer in one word."
        p, p_other = task.judge.p_of(image, asked, (atom.forms, atom.other_forms))
        check_answered(atom.question, (p, p_other))
    except (UnreadableImage, BackendFailed) as error:
        return failed_row(row, error)
    return replace(row, samples={"p": p}, details={**row.details, "p_other": p_other})


def _image_row(name: str, prompt: Prompt, rows: Rows) -> ItemRow:
    questions = [rows[f"{name}/{i}"] for i in range(len(prompt.atoms))]
    row = ItemRow(
        item=name,
        labels={"of": IMAGE, "atom_count": str(prompt.atom_count)},
        cluster=name,
        details={"prompt": prompt.text},
    )
    if any(question.excluded for question in questions):
        return unscored(row, questions)
    values = [question.samples["p"] for question in questions]
    asked = [f"{atom.question} {atom.answer}" for atom in prompt.atoms]
    return replace(
        row,
        samples={"am": math.fsum(values) / len(values), "gm": geometric_mean(values)},
        details={**row.details, "questions": list(zip(asked, values, strict=True))},
    )
