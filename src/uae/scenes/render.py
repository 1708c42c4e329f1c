"""Scenes to pixels: anti-aliased, at any resolution.

Coverage of a pixel is the share of `SUPERSAMPLING`^2 sub-pixel centres inside the shape; colours
are blended by coverage in sRGB values.
"""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from uae.scenes.graph import ASPECT, BACKGROUNDS, COLORS, Scene

SUPERSAMPLING = 5


def coverage(
    shape: str, width_px: float, x_px: float, y_px: float, num_columns: int, num_rows: int
) -> Float[np.ndarray, "h w"]:
    """Return each pixel's share covered by a shape, in [0, 1].

    Args:
        shape: One of `graph.SHAPES`.
        width_px: Width of the shape's bounding box.
        x_px: Centre of the bounding box, from the left edge of the patch.
        y_px: Centre of the bounding box, from the top edge of the patch.
        num_columns: Width of the patch.
        num_rows: Height of the patch.
    """
    step = 1 / SUPERSAMPLING
    xs = (np.arange(num_columns * SUPERSAMPLING) + 0.5) * step - x_px
    ys = (np.arange(num_rows * SUPERSAMPLING) + 0.5) * step - y_px
    x, y = xs[None, :] / width_px, ys[:, None] / width_px  # the bounding box is 1 wide
    if shape not in ASPECT:
        raise ValueError(f"shape {shape!r} is not known: expected one of {tuple(ASPECT)}")
    half_height = ASPECT[shape] / 2
    if shape == "circle":
        inside = x**2 + y**2 <= 0.25
    elif shape in ("square", "bar"):
        inside = (np.abs(x) <= 0.5) & (np.abs(y) <= half_height)
    elif shape == "triangle":
        inside = (np.abs(y) <= half_height) & (np.abs(x) <= (y + half_height) / (4 * half_height))
    else:  # a cross
        inside = np.minimum(np.abs(x), np.abs(y)) <= 1 / 6
        inside &= np.maximum(np.abs(x), np.abs(y)) <= 0.5
    blocks = inside.reshape(num_rows, SUPERSAMPLING, num_columns, SUPERSAMPLING)
    return blocks.mean(axis=(1, 3))


def render(scene: Scene, size_px: int = 64) -> UInt8[np.ndarray, "h w 3"]:
    """Draw a scene on a square canvas of `size_px` pixels, 8-bit sRGB."""
    canvas = np.empty((size_px, size_px, 3))
    canvas[:] = BACKGROUNDS[scene.background]
    for o in scene.objects:
        width_px, x_px, y_px = o.width * size_px, o.x * size_px, o.y * size_px
        left, right = int(x_px - width_px / 2), min(int(x_px + width_px / 2) + 1, size_px)
        top, bottom = int(y_px - width_px / 2), min(int(y_px + width_px / 2) + 1, size_px)
        alpha = coverage(o.shape, width_px, x_px - left, y_px - top, right - left, bottom - top)
        patch = canvas[top:bottom, left:right]
        patch += alpha[..., None] * (np.array(COLORS[o.color]) - patch)
    return np.round(canvas).astype(np.uint8)


def render_image(scene: Scene, size_px: int = 64) -> Image.Image:
    """Draw a scene as an RGB image."""
    return Image.fromarray(render(scene, size_px))
