"""Prompts for generation on scenes: GenEval's six categories, in two wordings.

They come from held-out scenes. Raw is GenEval's wording ("a photo of two red circles"), long is
the scene's complete caption; both ask for the same requirements. A "class" is a shape.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from uae.benchmarks.geneval.clauses import TAGS, Clause
from uae.scenes.graph import Scene, SceneObject, relation, scene_at
from uae.scenes.language import (
    NUMBER_WORDS,
    SHAPE_WORDS,
    article,
    choice,
    long_caption,
    plural,
)

_MAX_SCENES_PER_PROMPT = 1000  # scenes searched for one that fits a category


@dataclass(frozen=True, slots=True)
class GenerationPrompt:
    """A prompt in both wordings, with what an image must show."""

    tag: str
    scene: Scene
    raw: str
    long: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()


@cache
def generation_prompts(num_per_tag: int, seed: int = 0) -> tuple[GenerationPrompt, ...]:
    """Build `num_per_tag` prompts of each category from the test split, category by category."""
    return tuple(
        prompt
        for number, tag in enumerate(TAGS)
        for prompt in _prompts_of(tag, num_per_tag, seed, number)
    )


def _prompts_of(tag: str, num: int, seed: int, number: int) -> Iterator[GenerationPrompt]:
    num_built = 0
    for index in range(_MAX_SCENES_PER_PROMPT * num):
        if num_built == num:
            return
        # Each category starts elsewhere in the split, so that they share few scenes.
        scene = scene_at(number * 1_000_000 + index, "test", seed)
        rng = np.random.default_rng([seed, number, index])
        request = _BUILDERS[tag](scene, rng)
        if request is not None:
            num_built += 1
            raw, long = f"a photo of {request.text}", long_caption(scene, rng)
            yield GenerationPrompt(tag, scene, raw, long, request.include, request.exclude)
    assert num_built == num, f"the test split holds too few scenes for {tag!r}"


class _Request(NamedTuple):
    """What a scene is good for in one category."""

    text: str
    include: tuple[Clause, ...]
    exclude: tuple[Clause, ...] = ()


def _word(rng: np.random.Generator, shape: str) -> str:
    return choice(rng, SHAPE_WORDS[shape])


def _single_object(scene: Scene, rng: np.random.Generator) -> _Request | None:
    if len(scene.objects) != 1:
        return None
    shape = scene.objects[0].shape
    return _Request(article(_word(rng, shape)), (Clause(shape, 1),))


def _colors(scene: Scene, rng: np.random.Generator) -> _Request | None:
    if len(scene.objects) != 1:
        return None
    o = scene.objects[0]
    return _Request(article(f"{o.color} {_word(rng, o.shape)}"), (Clause(o.shape, 1, o.color),))


def _counting(scene: Scene, rng: np.random.Generator) -> _Request | None:
    count, shapes = len(scene.objects), {o.shape for o in scene.objects}
    if len(shapes) != 1 or not 2 <= count <= 4:
        return None
    (shape,) = shapes
    text = f"{NUMBER_WORDS[count]} {plural(_word(rng, shape))}"
    return _Request(text, (Clause(shape, count),), (Clause(shape, count + 1),))


def _pair(scene: Scene) -> tuple[SceneObject, SceneObject] | None:
    """Return a scene's two objects where they are all it holds and differ in shape."""
    if len(scene.objects) != 2 or scene.objects[0].shape == scene.objects[1].shape:
        return None
    return scene.objects[0], scene.objects[1]


def _two_object(scene: Scene, rng: np.random.Generator) -> _Request | None:
    if (pair := _pair(scene)) is None:
        return None
    text = " and ".join(article(_word(rng, o.shape)) for o in pair)
    return _Request(text, tuple(Clause(o.shape, 1) for o in pair))


def _position(scene: Scene, rng: np.random.Generator) -> _Request | None:
    if (pair := _pair(scene)) is None:
        return None
    subject, reference = pair if rng.random() < 0.5 else pair[::-1]
    if (name := relation(subject, reference)) is None:
        return None
    text = f"{article(_word(rng, subject.shape))} {name} {article(_word(rng, reference.shape))}"
    include = (Clause(reference.shape, 1), Clause(subject.shape, 1, position=(name, 0)))
    return _Request(text, include)


def _color_attr(scene: Scene, rng: np.random.Generator) -> _Request | None:
    pair = _pair(scene)
    if pair is None or pair[0].color == pair[1].color:
        return None
    text = " and ".join(article(f"{o.color} {_word(rng, o.shape)}") for o in pair)
    return _Request(text, tuple(Clause(o.shape, 1, o.color) for o in pair))


_BUILDERS: dict[str, Callable[[Scene, np.random.Generator], _Request | None]] = {
    "single_object": _single_object,
    "two_object": _two_object,
    "counting": _counting,
    "colors": _colors,
    "position": _position,
    "color_attr": _color_attr,
}
