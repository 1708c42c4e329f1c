from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from uae.scenes.graph import BACKGROUNDS, COLORS, SHAPES, SIZES, Scene, SceneObject, scene_at
from uae.scenes.parser import MAX_ERROR, parse
from uae.scenes.render import render

NUM_SCENES = 100


def num_exact(scenes, images) -> tuple[int, int, int]:
    """Right, true and found objects."""
    right = true = found = 0
    for scene, image in zip(scenes, images, strict=True):
        parsed = parse(image)
        a, b = (Counter(o.attributes for o in s.objects) for s in (scene, parsed))
        right, true, found = right + (a & b).total(), true + a.total(), found + b.total()
    return right, true, found


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene_at(i, "test", seed=5) for i in range(NUM_SCENES)]


@pytest.mark.parametrize("size_px", [64, 128])
def test_clean_renders_are_read_exactly(scenes: list[Scene], size_px: int):
    right, true, found = num_exact(scenes, [render(s, size_px) for s in scenes])
    assert right == true == found


@pytest.mark.parametrize("size_px", [65, 96, 200, 512])
def test_any_size_will_do(scenes: list[Scene], size_px: int):
    right, true, found = num_exact(scenes[:20], [render(s, size_px) for s in scenes[:20]])
    assert right == true == found


@pytest.mark.parametrize("sigma_px", [0.5, 1.0, 1.5])
def test_blur_does_not_matter(scenes: list[Scene], sigma_px: float):
    images = [ndimage.gaussian_filter(render(s), (sigma_px, sigma_px, 0)) for s in scenes]
    right, true, found = num_exact(scenes, images)
    assert min(right, found) >= 0.995 * true  # docs/scenes.md has the measured shares
    assert found <= true


@pytest.mark.parametrize("spread", [5, 10, 20])
def test_noise_does_not_matter(scenes: list[Scene], spread: int):
    rng = np.random.default_rng(0)
    images = [
        (render(s) + rng.normal(0, spread, (64, 64, 3))).round().clip(0, 255).astype(np.uint8)
        for s in scenes
    ]
    right, true, found = num_exact(scenes, images)
    assert min(right, found) >= 0.995 * true
    assert found <= true


@settings(max_examples=150, deadline=None)
@given(
    shape=st.sampled_from(SHAPES),
    color=st.sampled_from(list(COLORS)),
    size=st.sampled_from(list(SIZES)),
    background=st.sampled_from(list(BACKGROUNDS)),
    x=st.floats(0.2, 0.8),
    y=st.floats(0.2, 0.8),
)
def test_one_object_anywhere(
    shape: str, color: str, size: str, background: str, x: float, y: float
):
    parsed = parse(render(Scene(background, (SceneObject(shape, color, size, x, y),))))
    assert parsed.background == background
    assert not parsed.blobs
    (found,) = parsed.objects
    assert (found.shape, found.color, found.size) == (shape, color, size)
    # An eighth of a pixel by the template's grid, and as much by the renderer's sub-pixels.
    assert (found.x, found.y) == pytest.approx((x, y), abs=0.3 / 64)
    assert parsed.errors[0] < 0.06


def test_an_empty_canvas_holds_nothing():
    parsed = parse(render(Scene("mint", ())))
    assert parsed.background == "mint"
    assert parsed.objects == parsed.errors == parsed.blobs == ()


def canvas() -> np.ndarray:
    return np.full((64, 64, 3), BACKGROUNDS["gray"], dtype=np.uint8)


Y, X = np.mgrid[:64, :64] - 32


@pytest.mark.parametrize(
    "mask",
    [
        (np.hypot(X, Y) < 10) & (np.hypot(X, Y) > 6),  # a ring
        np.hypot(X, Y) < 20,  # a disc larger than any
        (np.abs(X) < 3) & (np.abs(Y) < 8),  # an upright bar
        np.abs(Y) < 2,  # a line through the image
    ],
)
def test_what_is_no_object_is_a_blob(mask: np.ndarray):
    image = canvas()
    image[mask] = COLORS["red"]
    parsed = parse(image)
    assert not parsed.objects
    (blob,) = parsed.blobs
    assert blob.error > MAX_ERROR
    assert (blob.x, blob.y) == pytest.approx((0.5, 0.5), abs=0.02)
    assert blob.area >= mask.mean()


@pytest.mark.parametrize("colors", [("red", "blue"), ("white", "pink"), ("green", "green")])
def test_touching_objects_are_told_apart(colors: tuple[str, str]):
    image = canvas()
    image[24:40, 15:31] = COLORS[colors[0]]
    image[27:37, 31:41] = COLORS[colors[1]]
    if colors[0] == colors[1]:
        image[24:40, 31] = BACKGROUNDS["gray"]
    parsed = parse(image)
    assert Counter((o.size, o.color, o.shape) for o in parsed.objects)[
        ("large", colors[0], "square")
    ]
    assert len(parsed.objects) == 2


def test_specks_are_nothing():
    image = canvas()
    image[10, 10] = image[40, 50] = COLORS["black"]
    parsed = parse(image)
    assert not parsed.objects
    assert not parsed.blobs


@pytest.mark.parametrize("shape", [(63, 63), (64, 80)])
def test_wrong_sizes_are_named(shape: tuple[int, int]):
    with pytest.raises(ValueError, match=f"{shape[1]} x {shape[0]} px: expected a square"):
        parse(np.zeros((*shape, 3), dtype=np.uint8))
