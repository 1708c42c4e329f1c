import math

import numpy as np
import pytest

from uae.scenes.graph import ASPECT, BACKGROUNDS, COLORS, SHAPES, Scene, SceneObject
from uae.scenes.render import coverage, render

AREAS = {
    "circle": math.pi / 4,
    "square": 1.0,
    "triangle": 0.5 * ASPECT["triangle"],
    "cross": 5 / 9,
    "bar": ASPECT["bar"],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width_px", [12.0, 24.0])
def test_coverage_is_the_shapes_area(shape: str, width_px: float):
    alpha = coverage(shape, width_px, 20.3, 19.8, 40, 40)
    assert alpha.min() == 0
    assert alpha.max() == 1
    # Sub-pixel centres count an area to within a line of them around the shape.
    assert alpha.sum() == pytest.approx(AREAS[shape] * width_px**2, rel=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_bounding_box_is_centred(shape: str):
    rows, columns = np.nonzero(coverage(shape, 21.0, 20.5, 20.5, 41, 41))
    assert columns.min() + columns.max() == 40
    assert abs(rows.min() + rows.max() - 40) <= 1
    assert columns.max() - columns.min() + 1 == pytest.approx(21, abs=1)


@pytest.mark.parametrize("size_px", [64, 100, 256])
def test_colours_are_exact_inside_and_outside(size_px: int):
    scene = Scene("navy", (SceneObject("square", "pink", "large", 0.5, 0.5),))
    image = render(scene, size_px)
    assert image.shape == (size_px, size_px, 3)
    assert tuple(image[size_px // 2, size_px // 2]) == COLORS["pink"]
    assert tuple(image[0, 0]) == BACKGROUNDS["navy"]


def test_objects_stand_where_the_graph_says():
    scene = Scene("gray", (SceneObject("bar", "black", "small", 0.8, 0.2),))
    rows, columns = np.nonzero((render(scene, 256) < 100).all(-1))
    assert columns.mean() / 256 == pytest.approx(0.8, abs=0.005)
    assert rows.mean() / 256 == pytest.approx(0.2, abs=0.005)
