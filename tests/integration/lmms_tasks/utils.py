"""Functions of the task beside this file: rows of `questions.tsv`, in MMT-Bench's columns."""

import base64
import io

from PIL import Image

from uae.benchmarks.answers import extract_answer
from uae.benchmarks.mmt_bench.prompt import compact_text
from uae.data.questions import LETTERS, Question


def question_of(doc: dict) -> Question:
    """Return the question of a row."""
    options = tuple(doc[letter] for letter in LETTERS if doc.get(letter))
    names = ("question", "answer", "category")
    return Question(
        **{name: doc[name] for name in names}, options=options, l2_category=doc["l2-category"]
    )


def to_visual(doc: dict) -> list[Image.Image]:
    """Return the image of a row."""
    return [Image.open(io.BytesIO(base64.b64decode(doc["image"]))).convert("RGB")]


def to_text(doc: dict, lmms_eval_specific_kwargs: dict | None = None) -> str:
    """Return the question with its options."""
    del lmms_eval_specific_kwargs
    return compact_text(question_of(doc))


def process_results(doc: dict, results: list[str]) -> dict[str, float]:
    """Score a reply."""
    letter = extract_answer(results[0], question_of(doc).options)
    return {"accuracy": float(letter == doc["answer"])}
