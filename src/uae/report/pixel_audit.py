"""Measures of redraws as pixels: signs that a decoder has learned to please the backbone.

All read the luminance (Rec. 709 weights on sRGB values). None proves anything alone: they are
compared with the originals', image by image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import fft, ndimage

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_HALF_NYQUIST = 0.25  # cycles per pixel
_STROKE_CONTRAST = 0.15  # luminance by which a stroke must differ from what surrounds it
_STROKE_SHARE = 1 / 128  # half width of the widest stroke, as a share of the short side


@dataclass(frozen=True, slots=True)
class PixelAudit:
    """Measures of n images, row i for image i."""

    brightness: Float[np.ndarray, " n"]
    """Mean luminance, in [0, 1]."""
    high_frequency: Float[np.ndarray, " n"]
    """RMS of the luminance beyond half the Nyquist frequency: fine texture, grids, checkers."""
    strokes: Float[np.ndarray, " n"]
    """Share of pixels on thin light or dark lines, as letters are made of: a proxy, not OCR."""


def audit_pixels(images: Sequence[Float[np.ndarray, "3 _ _"]]) -> PixelAudit:
    """Measure images with values in [0, 1]; a row of NaN (a failed redraw) gives NaN."""
    luminance = [np.einsum("chw,c->hw", x.astype(np.float64), _LUMINANCE) for x in images]
    return PixelAudit(
        brightness=np.array([image.mean() for image in luminance]),
        high_frequency=np.array([_high_frequency(image) for image in luminance]),
        strokes=np.array([_strokes(image) for image in luminance]),
    )


def distance_from(
    originals: Float[np.ndarray, " n"], redraws: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return how far each redraw is from its own original in one measure."""
    return np.abs(redraws - originals)


def excess_over(
    originals: Float[np.ndarray, " n"], redraws: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Return how much more of a measure each redraw has than its original, at least 0."""
    return np.maximum(redraws - originals, 0)


def _high_frequency(luminance: Float[np.ndarray, "h w"]) -> float:
    """By the orthonormal DCT, which, unlike the DFT, sees no jump between opposite borders."""
    height, width = luminance.shape
    y, x = np.arange(height) / (2 * height), np.arange(width) / (2 * width)  # cycles per pixel
    beyond = np.hypot(y[:, None], x[None, :]) > _HALF_NYQUIST
    coefficients = fft.dctn(luminance, norm="ortho")
    return float(np.sqrt((coefficients[beyond] ** 2).sum() / luminance.size))


def _strokes(luminance: Float[np.ndarray, "h w"]) -> float:
    """A pixel is on a stroke when a small square, moved inside its surroundings, cannot hold it."""
    if np.isnan(luminance).any():
        return float("nan")
    size = 2 * max(1, round(min(luminance.shape) * _STROKE_SHARE)) + 1
    light = luminance - ndimage.grey_opening(luminance, size=size)
    dark = ndimage.grey_closing(luminance, size=size) - luminance
    return float((np.maximum(light, dark) > _STROKE_CONTRAST).mean())
