"""Scenes to language: long, complete captions; short, vague ones; and GenEval-like prompts.

Wording and order vary at random, so the captions are language and not a code. In a long caption an
object is introduced once, with an indefinite article, and named again with "the"; `reading.py`
relies on that.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from uae.scenes.graph import Scene, SceneObject, relation

SIZE_WORDS = {
    "small": ("small", "tiny", "little"),
    "medium": ("medium", "midsize"),
    "large": ("large", "big"),
}
SHAPE_WORDS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle", "wedge"),
    "cross": ("cross", "plus"),
    "bar": ("bar", "strip"),
}
CELL_PHRASES = {
    "top left": ("in the top left", "in the upper left corner", "at the top left"),
    "top": ("at the top", "near the top edge", "in the top middle"),
    "top right": ("in the top right", "in the upper right corner", "at the top right"),
    "left": ("on the left", "near the left edge", "at the middle left"),
    "center": ("in the center", "in the middle", "at the center"),
    "right": ("on the right", "near the right edge", "at the middle right"),
    "bottom left": ("in the bottom left", "in the lower left corner", "at the bottom left"),
    "bottom": ("at the bottom", "near the bottom edge", "in the bottom middle"),
    "bottom right": ("in the bottom right", "in the lower right corner", "at the bottom right"),
}
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five")
RELATION_PHRASES = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
}

T = TypeVar("T")

_KEEP_SMALL = 0.2  # a short caption names a small object with this probability
_KEEP_OTHER = 0.95
_SHORT = {"size": 0.35, "cell": 0.75, "color": 0.95, "background": 0.6}
_TERSE = {"size": 0.8, "cell": 0.95, "color": 1.0, "background": 0.9}
_WHOLE = {"size": 1.0, "cell": 1.0, "color": 1.0, "background": 1.0}


def choice(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(shape_word: str) -> str:
    return shape_word + ("es" if shape_word[-1] in "sx" else "s")


def _join(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _noun(
    rng: np.random.Generator, o: SceneObject, *, size: bool = True, color: bool = True
) -> str:
    words = [choice(rng, SIZE_WORDS[o.size])] if size else []
    words += [o.color] if color else []
    return " ".join([*words, choice(rng, SHAPE_WORDS[o.shape])])


def _object_sentence(rng: np.random.Generator, o: SceneObject) -> str:
    cell = choice(rng, CELL_PHRASES[o.cell])
    noun = _noun(rng, o)
    bare = _noun(rng, o, size=False, color=False)
    size = choice(rng, SIZE_WORDS[o.size])
    return choice(
        rng,
        (
            f"There is {article(noun)} {cell}.",
            f"{_capital(cell)} there is {article(noun)}.",
            f"{_capital(cell)} sits {article(noun)}.",
            f"{_capital(article(noun))} is placed {cell}.",
            f"{_capital(cell)} one can see {article(bare)}, {size} and {o.color}.",
            f"{_capital(cell)} appears {article(f'{o.color} {bare}')}, {size} in size.",
        ),
    )


def _count_sentence(rng: np.random.Generator, scene: Scene) -> str:
    num_objects = len(scene.objects)
    things = "shape" if num_objects == 1 else "shapes"
    return choice(
        rng,
        (
            f"The picture shows {NUMBER_WORDS[num_objects]} {things} "
            f"on a {scene.background} background.",
            f"On a plain {scene.background} background the image has "
            f"{NUMBER_WORDS[num_objects]} {things}.",
            f"This is a {scene.background} picture with "
            f"{NUMBER_WORDS[num_objects]} {things} in it.",
        ),
    )


def _relation_sentences(rng: np.random.Generator, scene: Scene, limit: int) -> list[str]:
    pairs = [
        (a, b, name)
        for a in scene.objects
        for b in scene.objects
        if a is not b and (name := relation(a, b)) is not None
    ]
    order = rng.permutation(len(pairs))[:limit]
    sentences = []
    for i in order:
        a, b, name = pairs[i]
        subject, reference = _noun(rng, a, size=False), _noun(rng, b, size=False)
        verb = choice(rng, ("is", "lies"))
        sentences.append(f"The {subject} {verb} {RELATION_PHRASES[name]} the {reference}.")
    return sentences


def long_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe everything: count, background, each object whole, and some relations."""
    num_relations = (len(scene.objects) - 1) // 2
    body = [_object_sentence(rng, scene.objects[i]) for i in rng.permutation(len(scene.objects))]
    relations = _relation_sentences(rng, scene, num_relations)
    return " ".join([_count_sentence(rng, scene), *body, *relations])


def short_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe vaguely: most small objects and some attributes are left out."""
    named = [
        o
        for o in _shuffled(rng, scene.objects)
        if rng.random() < (_KEEP_SMALL if o.size == "small" else _KEEP_OTHER)
    ]
    return _listing(rng, scene, named, _SHORT)


def terse_caption(scene: Scene, rng: np.random.Generator) -> str:
    """Name every object in the short captions' wording; few attributes are left out."""
    return _listing(rng, scene, _shuffled(rng, scene.objects), _TERSE)


def inventory(scene: Scene, rng: np.random.Generator) -> str:
    """Name every object whole in the short captions' wording, row by row."""
    return _listing(rng, scene, scene.objects, _WHOLE)


def _shuffled(rng: np.random.Generator, objects: Sequence[SceneObject]) -> list[SceneObject]:
    return [objects[i] for i in rng.permutation(len(objects))]


def _listing(
    rng: np.random.Generator, scene: Scene, named: Sequence[SceneObject], keep: dict[str, float]
) -> str:
    """List objects in one sentence, each attribute kept with its probability."""
    phrases = []
    for o in named:
        size, color = rng.random() < keep["size"], rng.random() < keep["color"]
        noun = _noun(rng, o, size=size, color=color)
        cell = f" {choice(rng, CELL_PHRASES[o.cell])}" if rng.random() < keep["cell"] else ""
        phrases.append(article(noun) + cell)
    if not phrases:
        return f"A plain {scene.background} background."
    named_background = rng.random() < keep["background"]
    tail = f" on a {scene.background} background" if named_background else ""
    return f"{_capital(_join(phrases))}{tail}."


def prompt(scene: Scene, rng: np.random.Generator) -> str:
    """Name every object in the manner of GenEval: "a photo of two red circles and a blue bar"."""
    counts = Counter((o.color, o.shape) for o in scene.objects)
    with_color = rng.random() < 0.8
    if not with_color:
        counts = Counter(("", o.shape) for o in scene.objects)
    phrases = []
    for color, shape in counts:
        count, word = counts[color, shape], choice(rng, SHAPE_WORDS[shape])
        noun = f"{color} {word if count == 1 else plural(word)}".strip()
        phrases.append(article(noun) if count == 1 else f"{NUMBER_WORDS[count]} {noun}")
    if len(scene.objects) == 2 and rng.random() < 0.5:
        a, b = scene.objects if rng.random() < 0.5 else scene.objects[::-1]
        if (name := relation(a, b)) is not None:
            subject = _noun(rng, a, size=False, color=with_color)
            reference = _noun(rng, b, size=False, color=with_color)
            return f"a photo of {article(subject)} {name} {article(reference)}"
    return f"a photo of {_join([phrases[i] for i in rng.permutation(len(phrases))])}"
