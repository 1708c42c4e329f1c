"""Scene graphs: the exact ground truth of the procedural world, and how they are drawn at random.

A scene is a background and one to five objects, at most one in each cell of a 3 x 3 grid.
Coordinates are fractions of the canvas in [0, 1], x to the right and y downwards, so a scene has no
resolution.
A scene is a pure function of (seed, split, index): sources have random access and no state.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from uae.benchmarks.geneval.clauses import relations_of_boxes

Split = Literal["train", "validation", "test"]

SHAPES = ("circle", "square", "triangle", "cross", "bar")
COLORS = {  # GenEval's ten colours, in its order, as 8-bit sRGB
    "red": (214, 39, 40),
    "orange": (255, 140, 0),
    "yellow": (252, 226, 5),
    "green": (34, 150, 50),
    "blue": (40, 80, 235),
    "purple": (135, 35, 160),
    "pink": (255, 130, 190),
    "brown": (120, 70, 30),
    "black": (15, 15, 15),
    "white": (250, 250, 250),
}
BACKGROUNDS = {
    "gray": (150, 150, 150),
    "beige": (222, 203, 164),
    "teal": (0, 112, 122),
    "navy": (28, 36, 84),
    "lavender": (190, 178, 224),
    "mint": (168, 224, 192),
}
SIZES = {"small": 6 / 64, "medium": 10 / 64, "large": 16 / 64}  # width as a share of the canvas
CELLS = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip

MAX_OBJECTS = 5
JITTER = 1.9 / 64  # objects leave their cell's centre by at most this, so neighbours never touch
ASPECT = {"circle": 1.0, "square": 1.0, "triangle": 0.9, "cross": 1.0, "bar": 0.4}  # height / width

TEST_ONLY_PAIRS = frozenset(
    {
        ("red", "cross"),
        ("blue", "triangle"),
        ("green", "bar"),
        ("white", "circle"),
        ("pink", "square"),
    }
)
"""(colour, shape) pairs that appear in test scenes only, to measure composition."""

_NUM_OBJECTS_WEIGHTS = (0.15, 0.25, 0.25, 0.2, 0.15)
_SIZE_WEIGHTS = (0.4, 0.35, 0.25)
_REPEAT_PROBABILITY = 0.3  # share of scenes where one object is repeated: counting needs them
_SPLIT_OF_BUCKET: tuple[Split, ...] = ("test", "validation") + ("train",) * 18


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object. `x` and `y` are its bounding box's centre in [0, 1]."""

    shape: str
    color: str
    size: str
    x: float
    y: float

    @property
    def cell(self) -> str:
        column, row = min(int(self.x * 3), 2), min(int(self.y * 3), 2)
        return CELLS[3 * row + column]

    @property
    def width(self) -> float:
        return SIZES[self.size]

    @property
    def height(self) -> float:
        return SIZES[self.size] * ASPECT[self.shape]

    @property
    def attributes(self) -> tuple[str, str, str, str]:
        """Everything that language can say of the object: (cell, size, color, shape)."""
        return (self.cell, self.size, self.color, self.shape)


@dataclass(frozen=True, slots=True)
class Scene:
    """A background and its objects, in reading order (row by row)."""

    background: str
    objects: tuple[SceneObject, ...]

    @property
    def key(self) -> str:
        """Canonical text of the graph. Jitter is left out: scenes that read alike are equal."""
        return "|".join([self.background, *sorted("/".join(o.attributes) for o in self.objects)])

    @property
    def split(self) -> Split:
        """The one split this graph may appear in, by its hash."""
        bucket = hashlib.sha256(self.key.encode()).digest()[0] % len(_SPLIT_OF_BUCKET)
        return _SPLIT_OF_BUCKET[bucket]

    @property
    def has_test_only_pair(self) -> bool:
        return any((o.color, o.shape) in TEST_ONLY_PAIRS for o in self.objects)


def held_relations(subject: SceneObject, reference: SceneObject) -> tuple[str, ...]:
    """Return the relations in which an object stands to another: none, one or two."""
    offset = np.array([subject.x - reference.x, subject.y - reference.y])
    sizes = np.array([subject.width + reference.width, subject.height + reference.height])
    return relations_of_boxes(offset, sizes, negligible=1e-3 / 64)


def relation(subject: SceneObject, reference: SceneObject) -> str | None:
    """Return the one relation that holds; None for none, and for a diagonal, which holds two."""
    held = held_relations(subject, reference)
    return held[0] if len(held) == 1 else None


def random_object(rng: np.random.Generator, cell: int) -> SceneObject:
    """Draw one object in grid cell `cell` (0 to 8, row by row)."""
    row, column = divmod(cell, 3)
    dx, dy = rng.uniform(-JITTER, JITTER, 2)
    return SceneObject(
        shape=SHAPES[rng.integers(len(SHAPES))],
        color=list(COLORS)[rng.integers(len(COLORS))],
        size=list(SIZES)[rng.choice(len(SIZES), p=_SIZE_WEIGHTS)],
        x=(column + 0.5) / 3 + dx,
        y=(row + 0.5) / 3 + dy,
    )


def random_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene without regard to splits."""
    num_objects = 1 + rng.choice(MAX_OBJECTS, p=_NUM_OBJECTS_WEIGHTS)
    cells = rng.choice(len(CELLS), num_objects, replace=False)
    objects = [random_object(rng, int(cell)) for cell in cells]
    if num_objects > 1 and rng.random() < _REPEAT_PROBABILITY:
        first = objects[0]
        for i in range(1, 1 + rng.integers(1, num_objects)):
            other = objects[i]
            objects[i] = SceneObject(first.shape, first.color, first.size, other.x, other.y)
    objects.sort(key=lambda o: CELLS.index(o.cell))
    background = list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))]
    return Scene(background, tuple(objects))


def scene_at(index: int, split: Split, seed: int = 0) -> Scene:
    """Return scene `index` of a split: its generator's first draw that the split admits."""
    rng = np.random.default_rng([seed, ("train", "validation", "test").index(split), index])
    while True:
        scene = random_scene(rng)
        if scene.split == split and (split == "test" or not scene.has_test_only_pair):
            return scene
