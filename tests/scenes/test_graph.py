import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uae.benchmarks.geneval.clauses import RELATIONS
from uae.benchmarks.geneval.prompts import COLORS as GENEVAL_COLORS
from uae.scenes.graph import (
    CELLS,
    COLORS,
    TEST_ONLY_PAIRS,
    SceneObject,
    held_relations,
    relation,
    scene_at,
)


def at(x: float, y: float, size: str = "small") -> SceneObject:
    return SceneObject("square", "red", size, x, y)


def test_a_scene_is_a_function_of_seed_split_and_index():
    assert scene_at(3, "train", seed=1) == scene_at(3, "train", seed=1)
    assert scene_at(3, "train", seed=1) != scene_at(4, "train", seed=1)
    assert scene_at(3, "train", seed=1) != scene_at(3, "train", seed=2)


def test_no_graph_is_in_two_splits():
    keys = {
        split: {scene_at(i, split).key for i in range(60)}
        for split in ("train", "validation", "test")
    }
    assert not keys["train"] & keys["validation"]
    assert not keys["train"] & keys["test"]
    assert not keys["validation"] & keys["test"]


def test_some_pairs_are_in_the_test_split_only():
    train = [scene_at(i, "train") for i in range(400)]
    test = [scene_at(i, "test") for i in range(150)]
    assert not any(s.has_test_only_pair for s in train)
    seen = {(o.color, o.shape) for s in test for o in s.objects}
    assert seen >= TEST_ONLY_PAIRS


def test_objects_stand_in_different_cells_and_never_touch():
    for i in range(300):
        objects = scene_at(i, "train").objects
        cells = [CELLS.index(o.cell) for o in objects]
        assert cells == sorted(set(cells))
        for a in objects:
            assert 0 < a.x - a.width / 2 < a.x + a.width / 2 < 1
            for b in objects:
                if a is not b:
                    gap = max(
                        abs(a.x - b.x) - (a.width + b.width) / 2,
                        abs(a.y - b.y) - (a.width + b.width) / 2,
                    )
                    assert gap > 1 / 64


@pytest.mark.parametrize(
    ("dx", "dy", "name"),
    [
        (-0.3, 0.0, "left of"),
        (0.3, 0.0, "right of"),
        (0.0, -0.3, "above"),
        (0.0, 0.3, "below"),
        (0.3, 0.3, None),  # a diagonal holds two
        (0.01, 0.0, None),  # within a tenth of both sizes
    ],
)
def test_relations(dx: float, dy: float, name: str | None):
    assert relation(at(0.5 + dx, 0.5 + dy), at(0.5, 0.5)) == name


def test_one_object_is_repeated_often_enough_to_count():
    scenes = [scene_at(i, "train") for i in range(400)]
    repeated = [len({o.attributes[1:] for o in s.objects}) < len(s.objects) for s in scenes]
    assert 0.15 < np.mean(repeated) < 0.45


def test_colours_are_those_of_geneval_in_its_order():
    assert tuple(COLORS) == GENEVAL_COLORS


coordinates = st.floats(0.1, 0.9)


@given(coordinates, coordinates, coordinates, coordinates)
def test_relations_turn_round_with_their_objects(ax: float, ay: float, bx: float, by: float):
    a = SceneObject("bar", "red", "large", ax, ay)
    b = SceneObject("cross", "red", "small", bx, by)
    held = held_relations(a, b)
    assert relation(a, b) == (held[0] if len(held) == 1 else None)
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    assert held_relations(b, a) == tuple(
        sorted((opposite[name] for name in held), key=RELATIONS.index)
    )


def test_a_diagonal_holds_two():
    a, b = (SceneObject("bar", "red", "small", x, x) for x in (0.2, 0.8))
    assert held_relations(a, b) == ("left of", "above")
