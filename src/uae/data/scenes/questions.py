"""Multiple-choice questions from scene graphs, and the columns of MMT-Bench's TSV files.

Subtasks (`category`) and meta-tasks (`l2_category`) carry MMT-Bench's names
(OpenGVLab/MMT-Bench). One row of a TSV file is a question with its image as base64 PNG, as
VLMEvalKit reads it.
"""

import base64
import binascii
import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from uae.data.scenes.graph import CELLS, COLORS, RELATIONS, SHAPES, Scene, SceneObject, relation
from uae.data.scenes.language import CELL_PHRASES, NUMBER_WORDS
from uae.errors import UsageError

LETTERS = "ABCDEFGHI"
NUM_OPTIONS = 4

_REQUIRED_COLUMNS = ("index", "question", "answer", "category", "l2-category", "split", "image")


@dataclass(frozen=True, slots=True)
class Question:
    """One question with up to nine options; `answer` is the letter of the right one."""

    question: str
    options: tuple[str, ...]
    answer: str
    category: str
    l2_category: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question about an image, as one row of a TSV file."""

    index: int
    question: Question
    image: Image.Image
    split: str


def question_text(question: Question) -> str:
    """Return the prompt: hint if any, question, one line per option, and the form of the answer."""
    hint = [f"Hint: {question.hint}"] if question.hint else []
    lines = [f"{letter}. {o}" for letter, o in zip(LETTERS, question.options, strict=False)]
    return "\n".join([*hint, question.question, *lines, "Answer with one letter."])


def open_question_text(question: Question) -> str:
    """Return the prompt without options; the answer is the right option's words."""
    return f"{question.question}\nAnswer in words."


def _options(
    rng: np.random.Generator, right: str, others: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    wrong = [o for o in dict.fromkeys(others) if o != right]
    chosen = [right, *(wrong[i] for i in rng.permutation(len(wrong))[: NUM_OPTIONS - 1])]
    order = rng.permutation(len(chosen))
    options = tuple(chosen[i] for i in order)
    return options, LETTERS[options.index(right)]


def _pick(rng: np.random.Generator, items: Sequence[SceneObject]) -> SceneObject:
    return items[int(rng.integers(len(items)))]


def _phrase(rng: np.random.Generator, cell: str) -> str:
    phrases = CELL_PHRASES[cell]
    return phrases[int(rng.integers(len(phrases)))]


def _name(o: SceneObject) -> str:
    return f"{o.color} {o.shape}"


def _small_object(scene: Scene, rng: np.random.Generator) -> Question | None:
    small = [o for o in scene.objects if o.size == "small"]
    if not small:
        return None
    o = _pick(rng, small)
    if sum(_name(other) == _name(o) for other in scene.objects) == 1 and rng.random() < 0.5:
        options, answer = _options(rng, o.cell, CELLS)
        text = f"Where is the small {_name(o)}?"
    else:
        wrong = [f"{c} {s}" for c in COLORS for s in SHAPES]
        options, answer = _options(rng, _name(o), wrong)
        text = f"Which small object is {_phrase(rng, o.cell)}?"
    return Question(text, options, answer, "small_object_detection", "localization")


def _color(scene: Scene, rng: np.random.Generator) -> Question | None:
    o = _pick(rng, scene.objects)
    options, answer = _options(rng, o.color, tuple(COLORS))
    text = f"What is the color of the {o.shape} {_phrase(rng, o.cell)}?"
    return Question(text, options, answer, "color_recognition", "visual_recognition")


def _shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    o = _pick(rng, scene.objects)
    options, answer = _options(rng, o.shape, SHAPES)
    text = f"What is the shape of the {o.color} object {_phrase(rng, o.cell)}?"
    return Question(text, options, answer, "shape_recognition", "visual_recognition")


def _count(scene: Scene, rng: np.random.Generator) -> Question | None:
    counts = Counter(o.shape for o in scene.objects)
    shape = str(rng.choice(SHAPES)) if rng.random() < 0.3 else _pick(rng, scene.objects).shape
    plural = shape + ("es" if shape.endswith("s") else "s")
    options, answer = _options(rng, NUMBER_WORDS[counts[shape]], NUMBER_WORDS)
    text = f"How many {plural} are there?"
    return Question(text, options, answer, "counting_by_category", "counting")


def _position(scene: Scene, rng: np.random.Generator) -> Question | None:
    names = Counter(_name(o) for o in scene.objects)
    pairs = [
        (a, b, name)
        for a in scene.objects
        for b in scene.objects
        if a is not b and names[_name(a)] == names[_name(b)] == 1
        if (name := relation(a, b)) is not None
    ]
    if not pairs:
        return None
    a, b, name = pairs[rng.integers(len(pairs))]
    options, answer = _options(rng, name, RELATIONS)
    text = f"Where is the {_name(a)} relative to the {_name(b)}?"
    return Question(text, options, answer, "object_relation", "relation_reasoning")


_MAKERS: dict[str, Callable[[Scene, np.random.Generator], Question | None]] = {
    "small_object_detection": _small_object,
    "color_recognition": _color,
    "shape_recognition": _shape,
    "counting_by_category": _count,
    "object_relation": _position,
}
CATEGORIES = tuple(_MAKERS)


def questions_for(
    scene: Scene, rng: np.random.Generator, num: int, category: str | None = None
) -> list[Question]:
    """Draw `num` questions about a scene, of one subtask or of any that the scene allows.

    Raises:
        ValueError: `category` is not known, or the scene allows no question of it (it has no small
            object, say).
    """
    if category is not None and category not in CATEGORIES:
        raise ValueError(f"category {category!r} is not known: expected one of {CATEGORIES}")
    questions: list[Question] = []
    kinds = list(_MAKERS) if category is None else [category]
    while len(questions) < num:
        kind = kinds[rng.integers(len(kinds))]
        question = _MAKERS[kind](scene, rng)
        if question is not None:
            questions.append(question)
        elif category is not None:
            raise ValueError(f"scene {scene.key!r} allows no question of category {category!r}")
    return questions


def allows(scene: Scene, category: str) -> bool:
    """Tell whether `questions_for` can ask a question of `category` about a scene."""
    return _MAKERS[category](scene, np.random.default_rng(0)) is not None


def write_tsv(path: Path, rows: Iterable[QuestionRow]) -> None:
    """Write rows in MMT-Bench's columns, with as many option columns as the widest row needs."""
    rows = list(rows)
    letters = LETTERS[: max((len(row.question.options) for row in rows), default=NUM_OPTIONS)]
    columns = ["index", "question", "hint", *letters, *_REQUIRED_COLUMNS[2:]]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, dialect="excel-tab", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            q = row.question
            writer.writerow(
                {
                    "index": row.index,
                    "question": q.question,
                    "hint": q.hint,
                    **dict(zip(letters, q.options, strict=False)),
                    "answer": q.answer,
                    "category": q.category,
                    "l2-category": q.l2_category,
                    "split": row.split,
                    "image": _encode_png(row.image),
                }
            )


def read_tsv(path: Path) -> Iterator[QuestionRow]:
    """Read rows one by one, in MMT-Bench's columns (options in A up to I; an empty one is absent).

    Raises:
        UsageError: A column is missing or a cell is wrong; the message names file, row and column.
    """
    csv.field_size_limit(sys.maxsize)  # a photo in base64 is longer than csv's default of 128 KiB
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, dialect="excel-tab", strict=True)
        missing = [c for c in (*_REQUIRED_COLUMNS, "A", "B") if c not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(
                f"{path}: column {missing[0]!r} is missing from the first line: expected "
                f"tab-separated columns {(*_REQUIRED_COLUMNS, *LETTERS[:NUM_OPTIONS])}"
            )
        seen: set[int] = set()
        for cells in reader:
            row = _row(cells, f"{path}, row {reader.line_num}")
            if row.index in seen:
                raise UsageError(
                    f"{path}, row {reader.line_num}, column 'index': {row.index} stands in an "
                    "earlier row too, expected a different number in each row"
                )
            seen.add(row.index)
            yield row


def _row(cells: Mapping[str | None, str | list[str] | None], where: str) -> QuestionRow:
    def wrong(column: str, found: str, right: str) -> UsageError:
        shown = found if len(found) <= 40 else f"{found[:40]}..."
        return UsageError(f"{where}, column {column!r}: {shown!r} found, expected {right}")

    if None in cells or None in cells.values():
        raise UsageError(f"{where}: the number of cells differs from the first line's")
    cell = {str(column): str(value) for column, value in cells.items()}
    if not cell["index"].isdecimal():
        raise wrong("index", cell["index"], "a whole number")
    if not cell["question"].strip():
        raise wrong("question", cell["question"], "the question's text")
    options = [cell.get(letter, "") for letter in LETTERS]
    num_options = next((i for i, o in enumerate(options) if not o), len(options))
    if num_options < 2 or any(options[num_options:]):
        right = "a text: options fill the columns from A on without a gap, at least two"
        raise wrong(LETTERS[num_options], "", right)
    if cell["answer"] not in tuple(LETTERS[:num_options]):
        raise wrong("answer", cell["answer"], f"one of {', '.join(LETTERS[:num_options])}")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(cell["image"], validate=True)))
        image.load()
    except (binascii.Error, UnidentifiedImageError, OSError, Image.DecompressionBombError):
        raise wrong("image", cell["image"], "an image file in base64") from None
    question = Question(
        question=cell["question"],
        options=tuple(options[:num_options]),
        answer=cell["answer"],
        category=cell["category"],
        l2_category=cell["l2-category"],
        hint=cell.get("hint", ""),
    )
    return QuestionRow(int(cell["index"]), question, image.convert("RGB"), cell["split"])


def _encode_png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
