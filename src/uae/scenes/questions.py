"""Multiple-choice questions from scene graphs, in the terms of MMT-Bench.

Subtasks (`category`) and meta-tasks (`l2_category`) carry MMT-Bench's names
(OpenGVLab/MMT-Bench).
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from uae.benchmarks.geneval.clauses import RELATIONS
from uae.data.questions import LETTERS, Question
from uae.scenes.graph import CELLS, COLORS, SHAPES, Scene, SceneObject, relation
from uae.scenes.language import CELL_PHRASES, NUMBER_WORDS, choice, plural

NUM_OPTIONS = 4


def _options(
    rng: np.random.Generator, right: str, others: Sequence[str]
) -> tuple[tuple[str, ...], str]:
    wrong = [o for o in dict.fromkeys(others) if o != right]
    chosen = [right, *(wrong[i] for i in rng.permutation(len(wrong))[: NUM_OPTIONS - 1])]
    order = rng.permutation(len(chosen))
    options = tuple(chosen[i] for i in order)
    return options, LETTERS[options.index(right)]


def _name(o: SceneObject) -> str:
    return f"{o.color} {o.shape}"


def _small_object(scene: Scene, rng: np.random.Generator) -> Question | None:
    small = [o for o in scene.objects if o.size == "small"]
    if not small:
        return None
    o = choice(rng, small)
    if sum(_name(other) == _name(o) for other in scene.objects) == 1 and rng.random() < 0.5:
        options, answer = _options(rng, o.cell, CELLS)
        text = f"Where is the small {_name(o)}?"
    else:
        wrong = [f"{c} {s}" for c in COLORS for s in SHAPES]
        options, answer = _options(rng, _name(o), wrong)
        text = f"Which small object is {choice(rng, CELL_PHRASES[o.cell])}?"
    return Question(text, options, answer, "small_object_detection", "localization")


def _color(scene: Scene, rng: np.random.Generator) -> Question | None:
    o = choice(rng, scene.objects)
    options, answer = _options(rng, o.color, tuple(COLORS))
    text = f"What is the color of the {o.shape} {choice(rng, CELL_PHRASES[o.cell])}?"
    return Question(text, options, answer, "color_recognition", "visual_recognition")


def _shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    o = choice(rng, scene.objects)
    options, answer = _options(rng, o.shape, SHAPES)
    text = f"What is the shape of the {o.color} object {choice(rng, CELL_PHRASES[o.cell])}?"
    return Question(text, options, answer, "shape_recognition", "visual_recognition")


def _count(scene: Scene, rng: np.random.Generator) -> Question | None:
    counts = Counter(o.shape for o in scene.objects)
    shape = str(rng.choice(SHAPES)) if rng.random() < 0.3 else choice(rng, scene.objects).shape
    options, answer = _options(rng, NUMBER_WORDS[counts[shape]], NUMBER_WORDS)
    text = f"How many {plural(shape)} are there?"
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
        ValueError: `category` is not known, or the scene allows no question of it.
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
    return _MAKERS[category](scene, np.random.default_rng(0)) is not None
