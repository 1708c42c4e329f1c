"""MMT-Bench on a model: TSV file in, result folder out (OpenGVLab/MMT-Bench, 2404.16006).

Two numbers from one pass over the questions:

- answer: the reply's letter by the rules of `eval/answers.py`; a reply that fits none is wrong, and
  counted apart as not parsed
- likelihood: the option letter that the reply most probably begins with; nothing is extracted

An item whose images do not decode, or whose model gave no reply, is excluded and counted.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass as config_dataclass

from uae.config import STRICT
from uae.data.questions_file import Question, QuestionRow, decode_images, read_tsv
from uae.data.untrusted.file import UnreadableImage
from uae.durable import storage_faults
from uae.errors import UsageError
from uae.eval.answers import RULES, extract_answer
from uae.eval.mmt_bench.model import AnswerFailed, McqModel
from uae.eval.mmt_bench.prompt import PROMPTS, PromptName
from uae.eval.mmt_bench.summary import mmt_scores
from uae.eval.results.marks import part_option
from uae.eval.results.pictures import save_thumbnails, with_pictures
from uae.eval.results.result import BenchResult
from uae.eval.results.rows import ItemRow
from uae.eval.results.run import BenchRun, Resume
from uae.eval.results.stamp import BenchSettings, ModelStamp, file_digest

BENCHMARK, TEXT_BENCHMARK = "mmt-bench", "text-questions"
VAL, NUM_VAL = "VAL", 3127
"""The published split with answers, and its size."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class MmtConfig:
    """How MMT-Bench is run."""

    limit: PositiveInt | None = None
    """Questions to ask, from the first row on; all if not given."""
    prompt: PromptName = "vlmevalkit"
    """Wording of the questions, see `prompt.py`."""
    likelihood: bool = True
    """Measure the likelihood of the option letters too."""
    hidden_answers: bool = False
    """Take rows without an answer (split TEST of the file ALL): replies are kept, not scored."""
    text_only: bool = False
    """Take a file without images, whose questions are chats of text alone: another benchmark."""


def evaluate_mmt(
    model: McqModel,
    tsv: Path,
    folder: Path,
    stamp: ModelStamp,
    config: MmtConfig | None = None,
    *,
    resume: Resume = "auto",
    retry_failed: bool = False,
    show: Callable[[int, int], None] | None = None,
) -> BenchResult:
    """Ask a model the questions of a file that have no row in the folder yet, and score all.

    Args:
        model: Answers.
        tsv: MMT-Bench_{VAL,ALL}[_MI].tsv, or any file in its columns.
        folder: Run folder, see `results.run`.
        stamp: What the model's answers depend on.
        config: How much, by default everything.
        resume: `must` refuses a folder without a run, `never` one with a run.
        retry_failed: Ask again where the model gave no reply.
        show: Told (questions done, questions in all), before the first and after each.

    Raises:
        UsageError: The file is wrong, which is found before the first question, or the folder is
            of another run.
        EnvironmentFault: The folder cannot be written.
    """
    config = config or MmtConfig()
    num_items = len(check_tsv(tsv, config))
    num_val = 0 if config.text_only else sum(row.split == VAL for row in _rows(tsv, config))
    settings = mmt_settings(tsv, stamp, config, num_val)
    with BenchRun.open(folder, settings, resume=resume, retry_failed=retry_failed) as run:
        _show(show, run.num_done, num_items)
        for row in run.todo(_rows(tsv, config), lambda row: str(row.index)):
            run.add(ask(model, row, config, folder))
            _show(show, run.num_done, num_items)
        return run.finish(mmt_scores)


def check_tsv(tsv: Path, config: MmtConfig) -> list[str]:
    """Read all rows that will be asked, images undecoded, and return the names of their items.

    Raises:
        UsageError: The file is wrong, or has no rows; the message names file, line and column.
    """
    names = [str(row.index) for row in _rows(tsv, config)]
    if not names:
        raise UsageError(f"{tsv} has no rows below its first line: expected one per question")
    return names


def mmt_settings(tsv: Path, stamp: ModelStamp, config: MmtConfig, num_val: int) -> BenchSettings:
    """Return what the numbers of a run depend on; `num_val` of its questions are of split VAL."""
    return BenchSettings(
        benchmark=TEXT_BENCHMARK if config.text_only else BENCHMARK,
        version=RULES,
        model=stamp,
        data={"tsv": file_digest(tsv)},
        options={
            "prompt": config.prompt,
            "limit": config.limit,
            "likelihood": config.likelihood,
            "hidden_answers": config.hidden_answers,
            **(part_option(num_val, NUM_VAL, f"questions of {VAL}") if num_val else {}),
        },
    )


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
        reason = "no answer from the model"
        return replace(asked, excluded=reason, excluded_detail=str(error), can_retry=True)
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
    reply = model.answer(images, text)
    log_probs = list(model.option_log_probs(images, text, letters)) if config.likelihood else []
    return {
        "reply": reply,
        "letter": extract_answer(reply, question.options),
        "likeliest": _likeliest(letters, log_probs),
        "log_probs": [x if math.isfinite(x) else None for x in log_probs],
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


def _rows(tsv: Path, config: MmtConfig) -> Iterator[QuestionRow]:
    rows = read_tsv(tsv, hidden_answers=config.hidden_answers, text_only=config.text_only)
    return itertools.islice(rows, config.limit)


def _show(show: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if show:
        show(done, total)
