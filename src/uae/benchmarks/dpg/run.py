"""DPG-Bench as a benchmark run: rows for each image of an item, each question, each item.

The official judge, mPLUG-large, needs modelscope, fairseq and taming-transformers; here any model
answers by P(yes) and P(no), so the benchmark has another name and its numbers are not the published
ones. A reply that begins as neither is excluded and counted.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from uae.backends.failure import BackendFailed
from uae.backends.judge import Judge, check_answered
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.dpg.prompts import (
    NUM_PROMPTS,
    Item,
    Question,
    image_path,
    prompts_digest,
    set_name,
)
from uae.benchmarks.dpg.score import IMAGE, ITEM, QUESTION, dpg_scores, with_dependencies
from uae.benchmarks.image_origin import check_prompts
from uae.benchmarks.judged.images import ImageSet, check_images, files_of_no_item
from uae.benchmarks.judged.rows import JudgedTask, Rows, failed_row, unscored
from uae.benchmarks.prompt_set import NO_FORMS, YES_FORMS, PromptSet
from uae.data.opening import check_image, open_image, regular_file
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

BENCHMARK = "dpg-other-judge"
RULES, COMPAT_RULES = "uae-dpg-2", "uae-dpg-2-compat"


@dataclass(frozen=True, slots=True)
class DpgTask(JudgedTask[Item]):
    """What is scored, by whom, and how."""

    num_images: int = 4
    """4 in a grid of two by two, or one alone."""
    compat: bool = False
    """Score categories with upstream's faults."""


def find_images(
    root: Path, prompts: PromptSet[Item], num_images: int, *, allow_missing: bool = False
) -> ImageSet:
    """Find the file of each item; raises as `check_images`, or for images drawn otherwise."""
    digest = prompts_digest({name: item.prompt for name, item in prompts.by_name.items()})
    check_prompts(root, digest, set_name(num_images))
    expected = {name: image_path(root, name) for name in prompts.by_name}
    return check_images(
        root,
        expected,
        files_of_no_item(root, expected),
        allow_missing=allow_missing,
        fault_of=_no_grid if num_images == 4 else lambda _: "",
    )


def _no_grid(path: Path) -> str:
    with regular_file(path) as stream:
        width, height = check_image(stream, path)
    if width % 2 or height % 2:
        return f"{width} x {height} pixels: expected a grid of two by two images of one size"
    return ""


def crops(image: Image.Image, num_images: int) -> list[Image.Image]:
    side = round(num_images**0.5)
    width, height = image.width // side, image.height // side
    return [
        image.crop((x * width, y * height, (x + 1) * width, (y + 1) * height))
        for y in range(side)
        for x in range(side)
    ]


def plan_of(task: DpgTask) -> Plan:
    return task.plan(
        BENCHMARK,
        COMPAT_RULES if task.compat else RULES,
        NUM_PROMPTS,
        [work for item in task.prompts.prompts for work in _works(task, item)],
        dpg_scores,
        {"num_images": task.num_images, "compat": task.compat},
    )


def _works(task: DpgTask, item: Item) -> list[Work]:
    """Return the works of an item: its images, then what follows from them."""
    if item.item_id not in task.images.paths:
        return []
    work = partial(Work, group=item.item_id, image=task.images.paths[item.item_id])
    follows = partial(work, is_asked=False)
    if item.fault:
        return [follows(item=item.item_id, make=lambda _: _faulty_row(item))]
    works = [
        work(item=_image_name(item, i), make=partial(_image_row, task, item, i))
        for i in range(task.num_images)
    ]
    works += [
        follows(item=_question_name(item, q), make=partial(_question_row, task, item, q))
        for q in item.questions
    ]
    return [*works, follows(item=item.item_id, make=partial(_item_row, task, item))]


def _image_name(item: Item, image_id: int) -> str:
    return f"{item.item_id}/image {image_id}"


def _question_name(item: Item, question: Question) -> str:
    return f"{item.item_id}/question {question.question_id}"


def _row(item: Item, name: str, labels: Mapping[str, str]) -> ItemRow:
    return ItemRow(item=name, labels=labels, cluster=item.item_id, details={"prompt": item.prompt})


def _faulty_row(item: Item) -> ItemRow:
    row = _row(item, item.item_id, {"of": ITEM})
    return replace(row, excluded="faulty questions", excluded_detail=item.fault)


def _image_row(task: DpgTask, item: Item, image_id: int, _: Rows) -> ItemRow:
    """Ask all questions of one image."""
    row = _row(item, _image_name(item, image_id), {"of": IMAGE})
    try:
        image = crops(open_image(task.images.paths[item.item_id]), task.num_images)[image_id]
        p = {str(q.question_id): _p_yes_no(task.judge, image, q) for q in item.questions}
    except (UnreadableImage, BackendFailed) as error:
        return failed_row(row, error)
    answers = {key: float(yes > no) for key, (yes, no) in p.items()}
    scores = with_dependencies(item.questions, {int(key): x for key, x in answers.items()})
    details = {
        **row.details,
        "p_yes": {key: yes for key, (yes, _) in p.items()},
        "p_no": {key: no for key, (_, no) in p.items()},
        "answers": answers,
        "scores": {str(key): x for key, x in scores.items()},
    }
    return replace(row, samples={"image": _mean(scores.values())}, details=details)


def _p_yes_no(judge: Judge, image: Image.Image, question: Question) -> tuple[float, float]:
    yes, no = judge.p_of(image, f"{question.text} Answer yes or no.", (YES_FORMS, NO_FORMS))
    check_answered(question.text, (yes, no))
    return yes, no


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values)


def _question_row(task: DpgTask, item: Item, question: Question, rows: Rows) -> ItemRow:
    labels = {"of": QUESTION, "L1": question.broad_category, "L2": question.category}
    row = _row(item, _question_name(item, question), labels)
    row = replace(row, details={**row.details, "question": question.text, "answer": "Yes"})
    images = [rows[_image_name(item, i)] for i in range(task.num_images)]
    if any(image.excluded for image in images):
        return unscored(row, images)
    counted, part = (images[-1:], "answers") if task.compat else (images, "scores")
    values = [image.details[part][str(question.question_id)] for image in counted]
    return replace(row, samples={"category": _mean(values)})


def _item_row(task: DpgTask, item: Item, rows: Rows) -> ItemRow:
    row = _row(item, item.item_id, {"of": ITEM})
    images = [rows[_image_name(item, i)] for i in range(task.num_images)]
    if any(image.excluded for image in images):
        return unscored(row, images)
    questions = [
        (q.text, _mean([image.details["scores"][str(q.question_id)] for image in images]))
        for q in item.questions
    ]
    samples = {"dpg": _mean([image.samples["image"] for image in images])}
    return replace(row, samples=samples, details={**row.details, "questions": questions})
