"""Thirty questions in MMT-Bench's columns, and a model that answers from their text alone."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from uae.backends.answers import McqModel, McqReply
from uae.backends.failure import BackendFailed
from uae.benchmarks.mmt_bench.benchmark import MmtOptions
from uae.benchmarks.mmt_bench.evaluate import plan_of
from uae.benchmarks.mmt_bench.task import MmtTask
from uae.benchmarks.results.result import BenchResult
from uae.benchmarks.run import run_plan
from uae.core.provenance import ModelStamp
from uae.data.questions import Question, QuestionRow, encode_image, write_tsv

STAMP = ModelStamp(name="words", dtype="none", backend="none")
SUBTASKS = {
    "color_recognition": "visual_recognition",
    "shape_recognition": "visual_recognition",
    "small_object_detection": "localization",
}
RED = encode_image(Image.new("RGB", (4, 4), "red"))
BLUE = encode_image(Image.new("RGB", (6, 4), "blue"))


def rows(num: int = 30, split: str = "VAL") -> list[QuestionRow]:
    """Questions in turn of three subtasks; every fifth has two images."""
    names = list(SUBTASKS)
    made = []
    for i in range(num):
        category = names[i % 3]
        options = tuple(f"{word} {i}" for word in ("teal", "red", "olive", "navy")[: 2 + i % 3])
        question = Question(
            question=f"What is in picture {i}?",
            options=options,
            answer="ABCD"[i % len(options)],
            category=category,
            l2_category=SUBTASKS[category],
            hint="Look." if i % 2 else "",
        )
        image = f"['{RED}', '{BLUE}']" if i % 5 == 0 else RED
        made.append(QuestionRow(i, question, image, split))
    return made


def write(path: Path, questions: Sequence[QuestionRow]) -> Path:
    write_tsv(path, questions)
    return path


def evaluate(
    model: McqModel,
    tsv: Path,
    folder: Path,
    stamp: ModelStamp = STAMP,
    config: MmtOptions | None = None,
    **options: Any,
) -> BenchResult:
    """Run the benchmark with a model that is there already."""
    plan = plan_of(lambda: model, MmtTask.read(tsv, config), folder, stamp)
    return run_plan(plan, folder, **options)


class Words:
    """Replies in several manners, by chance that is fixed by the question."""

    def __init__(self, failing: Sequence[int] = ()) -> None:
        self.failing = failing
        self.asked: list[str] = []
        self.sizes: list[list[tuple[int, int]]] = []

    def reply(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> McqReply:
        text = self.answer(images, question)
        return McqReply(text, self.option_log_probs(images, question, letters) if letters else [])

    def answer(self, images: Sequence[Image.Image], question: str) -> str:
        self.asked.append(question)
        self.sizes.append([image.size for image in images])
        if any(f"picture {i}?" in question for i in self.failing):
            raise BackendFailed("model: no answer", "the endpoint gave no reply")
        rng = random.Random(question)
        letter = rng.choice("ABCD")
        return rng.choice([letter, f"({letter})", f"The answer is {letter}.", "Who knows?"])

    def option_log_probs(
        self, images: Sequence[Image.Image], question: str, letters: Sequence[str]
    ) -> list[float]:
        rng = random.Random(f"likelihood {question}")
        return [-rng.random() for _ in letters]
