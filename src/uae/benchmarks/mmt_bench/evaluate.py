"""MMT-Bench on a model: TSV file in, result folder out (OpenGVLab/MMT-Bench, 2404.16006).

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

from uae.backends.answers import ASKED, AnswerFailed, McqModel
from uae.backends.circuit_breaker import Outages
from uae.benchmarks.answers import extract_answer
from uae.benchmarks.mmt_bench.prompt import PROMPTS
from uae.benchmarks.mmt_bench.summary import mmt_scores
from uae.benchmarks.mmt_bench.task import MmtConfig, MmtTask
from uae.benchmarks.results.pictures import save_thumbnails, with_pictures
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.results.run import BenchRun, Resume
from uae.core.durable import storage_faults
from uae.core.memory import left_out_if_too_large
from uae.core.provenance import ModelStamp
from uae.data.questions import Question, QuestionRow, decode_images
from uae.data.untrusted.file import UnreadableImage
from uae.runs.rows import ItemRow

REPLY = "reply"
"""Of a row's details: what the model said."""


def evaluate_mmt(
    load: Callable[[], McqModel],
    task: MmtTask,
    folder: Path,
    stamp: ModelStamp,
    *,
    resume: Resume = "auto",
    retry_failed: bool = False,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> BenchResult:
    """Ask a model the questions that have no row in the folder yet, and score all.

    Args:
        load: Loads the model, once the folder has been checked and if there is a question left.
        task: What is asked.
        folder: Run folder, see `results.run`.
        stamp: What the model's answers depend on.
        resume: `must` refuses a folder without a run, `never` one with a run.
        retry_failed: Ask again where the model gave no reply.
        show: Told (questions done, questions in all), before the first and after each.

    Raises:
        UsageError: The folder is of another run, or the model is not there or is refused.
        RunFailed: The model's address failed several times running; what is done stays done.
        EnvironmentFault: The folder cannot be written.
    """
    load, num_items = functools.cache(load), len(task.items)
    settings = task.settings(stamp)
    with BenchRun.open(folder, settings, resume=resume, retry_failed=retry_failed) as run:
        has_answered = any(REPLY in row.details for row in run.rows.values())
        outages = Outages(ASKED, folder, has_answered=has_answered)
        show(run.num_done, num_items)
        for row in run.todo(task.rows(), lambda row: str(row.index)):
            asked = ask(load(), row, task.config, folder)
            run.add(asked)
            if asked.item not in task.faults:
                failure = "" if REPLY in asked.details else asked.excluded
                outages.add(asked.item, failure, asked.excluded_detail)
            show(run.num_done, num_items)
        return run.finish(mmt_scores)


def ask(model: McqModel, row: QuestionRow, config: MmtConfig, folder: Path) -> ItemRow:
    """Ask one question; what fails is excluded, never wrong.

    Args:
        model: Answers.
        row: The question.
        config: How it is asked.
        folder: Of the run; gets small copies of the question's images.

    Raises:
        EnvironmentFault: They cannot be written.
    """
    question = row.question
    asked = ItemRow(
        item=str(row.index),
        labels={
            "split": row.split,
            "meta_task": question.l2_category,
            "subtask": question.category,
        },
        details={
            "question": question.question,
            "hint": question.hint,
            "options": question.lettered,
            "answer": question.answer,
        },
    )
    try:
        images = [] if config.text_only else decode_images(row)
    except UnreadableImage as error:
        return replace(asked, excluded=f"image: {error.reason}", excluded_detail=error.detail)
    with storage_faults("cannot write", folder):
        asked = with_pictures(asked, save_thumbnails(images, folder, asked.item), folder)
    try:
        replied = _reply(model, images, question, config)
    except AnswerFailed as error:
        return replace(
            asked,
            excluded=error.reason,
            excluded_detail=error.detail,
            can_retry=error.can_retry,
        )
    return replace(
        asked,
        samples=_samples(question.answer, replied),
        excluded="" if question.answer else "the file holds no answer",
        details={**asked.details, **replied},
    )


def _reply(
    model: McqModel, images: Sequence[Image.Image], question: Question, config: MmtConfig
) -> dict[str, Any]:
    """Return the reply, and what is read from it."""
    text, letters = PROMPTS[config.prompt](question), list(question.lettered)
    with left_out_if_too_large(lambda why, detail: AnswerFailed(f"{ASKED}: {why}", detail)):
        reply = model.reply(images, text, letters if config.likelihood else [])
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
