"""MMT-Bench as a run: one row a question (OpenGVLab/MMT-Bench, arXiv 2404.16006).

Two numbers from one pass over the questions:

- answer: the reply's letter by the rules of `benchmarks/answers.py`; a reply that fits none is
  wrong, and counted apart as not parsed
- likelihood: the option letter that the reply most probably begins with; nothing is extracted

An item whose images do not decode, or whose model gave no reply, is excluded and counted.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from uae.backends.answers import ASKED, McqModel
from uae.backends.failure import BackendFailed
from uae.benchmarks.answers import extract_answer
from uae.benchmarks.benchmark import Plan, Work
from uae.benchmarks.mmt_bench.benchmark import MmtOptions
from uae.benchmarks.mmt_bench.export import export_predictions
from uae.benchmarks.mmt_bench.prompt import PROMPTS
from uae.benchmarks.mmt_bench.summary import mmt_scores, summary_text
from uae.benchmarks.mmt_bench.task import MmtTask
from uae.benchmarks.results.pictures import save_thumbnails, with_pictures
from uae.benchmarks.results.result import BenchResult
from uae.core.durable import storage_faults
from uae.core.memory import left_out_if_too_large
from uae.core.provenance import ModelStamp
from uae.core.ranks import once
from uae.data.questions import Question, QuestionRow, decode_images
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

REPLY = "reply"
"""Of a row's details: what the model said."""


def plan_of(load: Callable[[], McqModel], task: MmtTask, folder: Path, stamp: ModelStamp) -> Plan:
    """Plan a run that asks a model, loaded once a question is left, in the run folder `folder`."""
    load = functools.cache(load)

    def work(row: QuestionRow) -> Work:
        return Work(item=str(row.index), make=lambda _: ask(load(), row, task.options, folder))

    def text(result: BenchResult) -> str:
        if predictions := task.options.predictions:
            once(lambda: export_predictions(folder, task.tsv, predictions))
        return summary_text(result)

    return Plan(
        settings=task.settings(stamp),
        works=map(work, task.rows()),
        scores=mmt_scores,
        text=text,
        measured=task.items,
        asked=ASKED,
        is_answered=lambda row: REPLY in row.details,
    )


def ask(model: McqModel, row: QuestionRow, options: MmtOptions, folder: Path) -> ItemRow:
    """Ask one question; what fails is excluded, never wrong.

    The run's `folder` gets small copies of the question's images.
    """
    question = row.question
    kinds = {"meta_task": question.l2_category, "subtask": question.category}
    asked = ItemRow(
        item=str(row.index),
        labels={"split": row.split, **kinds},
        details={
            "question": question.question,
            "hint": question.hint,
            "options": question.lettered,
            "answer": question.answer,
        },
    )
    try:
        images = [] if options.text_only else decode_images(row)
    except UnreadableImage as error:
        return replace(asked, excluded=f"image: {error.reason}", excluded_detail=error.detail)
    with storage_faults("cannot write", folder):
        asked = with_pictures(asked, save_thumbnails(images, folder, asked.item), folder)
    try:
        replied = _reply(model, images, question, options)
    except BackendFailed as error:
        why = {"excluded": error.reason, "excluded_detail": error.detail}
        return replace(asked, **why, can_retry=error.can_retry)
    return replace(
        asked,
        samples=_samples(question.answer, replied),
        excluded="" if question.answer else "the file holds no answer",
        details={**asked.details, **replied},
    )


def _reply(
    model: McqModel, images: Sequence[Image.Image], question: Question, options: MmtOptions
) -> dict[str, Any]:
    """Return the reply, and what is read from it."""
    text, letters = PROMPTS[options.prompt](question), list(question.lettered)
    with left_out_if_too_large(lambda why, detail: BackendFailed(f"{ASKED}: {why}", detail)):
        reply = model.reply(images, text, letters if options.likelihood else [])
    return {
        REPLY: reply.text,
        "letter": extract_answer(reply.text, question.options),
        "likeliest": _likeliest(letters, reply.log_probs),
        "log_probs": [x if math.isfinite(x) else None for x in reply.log_probs],
    }


def _samples(answer: str, details: Mapping[str, Any]) -> dict[str, float]:
    if not answer:
        return {}
    samples = {
        "answer": float(details["letter"] == answer),
        "parsed": float(details["letter"] is not None),
    }
    if details["likeliest"] is not None:
        samples["likelihood"] = float(details["likeliest"] == answer)
    return samples


def _likeliest(letters: Sequence[str], log_probs: Sequence[float]) -> str | None:
    """Return the letter of the highest log-probability, the first of equal ones; None if unknown.

    A log-probability of minus infinity is one; a NaN leaves all of them in doubt.
    """
    assert len(log_probs) in (0, len(letters)), "one log-probability per letter"
    if not log_probs or any(map(math.isnan, log_probs)) or max(log_probs) == -math.inf:
        return None
    return letters[max(range(len(letters)), key=log_probs.__getitem__)]
